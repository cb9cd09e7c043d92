//! Asking a server for its endpoints: one attempt, bounded in time, and with a look at the server's clock.
//!
//! The library's own question retries as often as a session may, which is for ever.

use std::time::Duration;

use asset_stream::Timestamp;
use opcua::client::{Client, ConnectionSource};
use opcua::core::ResponseMessage;
use opcua::core::comms::url::hostname_port_from_url;
use opcua::types::{DateTime, EndpointDescription, Error, GetEndpointsRequest, NodeId, RequestHeader, StatusCode};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;

use crate::convert;
use crate::diagnose::Failure;
use crate::transport::{Cut, Dialer};

/// For telling why a server was not reached: two more packets on a local network.
const PROBE: Duration = Duration::from_secs(3);
/// The answer is there; saying goodbye is a courtesy.
const GOODBYE: Duration = Duration::from_secs(1);

/// What a server says about itself before anybody logs in.
#[derive(Clone, Debug)]
pub(crate) struct Discovery {
    /// Its endpoints, as advertised.
    pub(crate) endpoints: Vec<EndpointDescription>,
    /// Its clock, when it answered; few servers tell none.
    pub(crate) server_time: Option<Timestamp>,
    /// Our clock at that moment.
    pub(crate) our_time: Timestamp,
}

/// Asks once. The time covers all of it, name resolution and TCP included.
pub(crate) async fn discover(client: &Client, uri: &str, within: Duration) -> Result<Discovery, Failure> {
    let asked = timeout(within, ask(client, uri, within)).await;
    match asked {
        Ok(Ok(discovery)) => Ok(discovery),
        Ok(Err(error)) => Err(why(uri, Some(error)).await),
        Err(_) => Err(why(uri, None).await),
    }
}

async fn ask(client: &Client, uri: &str, within: Duration) -> Result<Discovery, Error> {
    let builder = client.session_builder().connect_to_endpoint_directly(uri)?;
    let channel = builder.build_channel(client.certificate_store().clone())?;
    let connector = Dialer { cut: Cut::default(), within }.get_connector(&EndpointDescription::from(uri))?;
    let mut events = channel.connect_no_retry(&connector).await?;
    let request = GetEndpointsRequest {
        request_header: RequestHeader::new(&NodeId::null(), &DateTime::now(), channel.request_handle()),
        endpoint_url: uri.into(),
        locale_ids: None,
        profile_uris: None,
    };
    let response = {
        let mut answer = std::pin::pin!(channel.send(request, within));
        loop {
            tokio::select! {
                answer = &mut answer => break answer?,
                event = events.poll() => if let opcua::client::transport::TransportPollResult::Closed(status) = event {
                    return Err(Error::new(status, "the server closed the connection when it was asked for its endpoints"));
                },
            }
        }
    };
    let our_time = Timestamp::now();
    let goodbye = async {
        channel.close_channel().await;
        while !matches!(events.poll().await, opcua::client::transport::TransportPollResult::Closed(_)) {}
    };
    // A server that does not hang up is not waited for.
    timeout(GOODBYE, goodbye).await.ok();
    match response {
        ResponseMessage::GetEndpoints(response) if !response.response_header.service_result.is_bad() => Ok(Discovery {
            endpoints: response.endpoints.unwrap_or_default(),
            server_time: convert::timestamp(&response.response_header.timestamp),
            our_time,
        }),
        ResponseMessage::GetEndpoints(response) => {
            Err(Error::new(response.response_header.service_result, "the server does not tell its endpoints"))
        }
        ResponseMessage::ServiceFault(fault) => {
            Err(Error::new(fault.response_header.service_result, "the server does not tell its endpoints"))
        }
        _ => Err(Error::new(StatusCode::BadUnknownResponse, "the server answered something else than its endpoints")),
    }
}

/// Looks at the steps one by one, to name the one that fails.
async fn why(uri: &str, error: Option<Error>) -> Failure {
    let Ok((host, port)) = hostname_port_from_url(uri, 4840) else { return Failure::Address(uri.to_owned()) };
    let addresses = match timeout(PROBE, lookup_host(format!("{host}:{port}"))).await {
        Ok(Ok(addresses)) => addresses.collect::<Vec<_>>(),
        Ok(Err(error)) => return Failure::Name(error.to_string()),
        Err(_) => return Failure::Name("the name server does not answer".to_owned()),
    };
    match timeout(PROBE, TcpStream::connect(&*addresses)).await {
        Ok(Ok(_)) => match error {
            Some(error) if !is_silence(error.status()) => Failure::from(error),
            _ => Failure::NoAnswer,
        },
        Ok(Err(error)) if error.kind() == std::io::ErrorKind::ConnectionRefused => Failure::Refused,
        Ok(Err(error)) => Failure::Unreachable(error.to_string()),
        Err(_) => Failure::Unreachable(format!("no answer within {} s", PROBE.as_secs())),
    }
}

/// Nothing, a closed connection, or bytes that are no OPC UA.
fn is_silence(status: StatusCode) -> bool {
    [
        StatusCode::BadTimeout,
        StatusCode::BadRequestTimeout,
        StatusCode::BadCommunicationError,
        StatusCode::BadConnectionClosed,
        StatusCode::BadConnectionRejected,
        StatusCode::BadDecodingError,
        StatusCode::BadTcpMessageTypeInvalid,
    ]
    .contains(&status)
}
