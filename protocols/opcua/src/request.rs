//! One request that does something: a call of a method or a write of a value, put to the server once.
//!
//! The answer is looked at as it came. The library's own functions make one status of what the server answers and of what becomes of the
//! connection; here a refusal has to be told from an answer that never came. The library sends a request over the connection for which it
//! was made, and never again.

use std::time::Duration;

use asset_stream::command::status::Reason;
use gateway::{Ending, Refusal};
use opcua::client::Session;
use opcua::client::services::{Call, Write};
use opcua::core::{RequestMessage, ResponseMessage};
use opcua::types::{
    AttributeId, CallMethodRequest, CallMethodResult, CallRequest, DataValue, Error, NodeId, NumericRange, ResponseHeader, StatusCode,
    Variant, WriteRequest, WriteValue,
};
use serde_json::{Map, Value as Json, json};
use tokio::time::timeout;

use crate::convert::{status_text, value};
use crate::offer::Offered;

/// Beyond the time for the answer: the secure channel may have to be renewed before.
const RENEWAL: Duration = Duration::from_secs(2);

/// What these say is said before anything is done.
const REFUSED: [StatusCode; 27] = [
    StatusCode::BadArgumentsMissing,
    StatusCode::BadAttributeIdInvalid,
    StatusCode::BadDataEncodingInvalid,
    StatusCode::BadDataEncodingUnsupported,
    StatusCode::BadIdentityTokenRejected,
    StatusCode::BadIndexRangeInvalid,
    StatusCode::BadInvalidArgument,
    StatusCode::BadMethodInvalid,
    StatusCode::BadNodeIdInvalid,
    StatusCode::BadNodeIdUnknown,
    StatusCode::BadNotExecutable,
    StatusCode::BadNotImplemented,
    StatusCode::BadNotSupported,
    StatusCode::BadNotWritable,
    StatusCode::BadNothingToDo,
    StatusCode::BadOutOfRange,
    StatusCode::BadRequestNotAllowed,
    StatusCode::BadRequestTooLarge,
    StatusCode::BadSecurityModeInsufficient,
    StatusCode::BadServerHalted,
    StatusCode::BadServiceUnsupported,
    StatusCode::BadTooManyArguments,
    StatusCode::BadTooManyOperations,
    StatusCode::BadTypeMismatch,
    StatusCode::BadUserAccessDenied,
    StatusCode::BadUserSignatureInvalid,
    StatusCode::BadWriteNotSupported,
];

/// The request came to a session that is none (any more).
const NO_SESSION: [StatusCode; 5] = [
    StatusCode::BadSecureChannelIdInvalid,
    StatusCode::BadSessionClosed,
    StatusCode::BadSessionIdInvalid,
    StatusCode::BadSessionNotActivated,
    StatusCode::BadTcpSecureChannelUnknown,
];

/// Calls a method, once, with as many inputs as it has.
pub(crate) async fn call(session: &Session, within: Duration, offered: &Offered, inputs: Vec<Variant>) -> Ending {
    let method = CallMethodRequest {
        object_id: offered.method.object.clone(),
        method_id: offered.method.method.clone(),
        input_arguments: Some(inputs),
    };
    let request_header = Call::new(session).timeout(within).header().clone();
    let request = CallRequest { request_header, methods_to_call: Some(vec![method]) };
    let response = match send(session, within, request).await {
        Ok(ResponseMessage::Call(response)) => *response,
        other => return unanswered(other, within),
    };
    if let Some(ending) = refused_as_a_whole(&response.response_header) {
        return ending;
    }
    match response.results.as_deref() {
        Some([result]) => of_call(offered, result),
        _ => strange(),
    }
}

/// Writes a variable's value, once. Neither status nor timestamps are written: many servers refuse them.
pub(crate) async fn write(session: &Session, within: Duration, node_id: NodeId, value: Variant) -> Ending {
    let value = WriteValue {
        node_id,
        attribute_id: AttributeId::Value as u32,
        index_range: NumericRange::None,
        value: DataValue { value: Some(value), ..DataValue::default() },
    };
    let request_header = Write::new(session).timeout(within).header().clone();
    let request = WriteRequest { request_header, nodes_to_write: Some(vec![value]) };
    let response = match send(session, within, request).await {
        Ok(ResponseMessage::Write(response)) => *response,
        other => return unanswered(other, within),
    };
    if let Some(ending) = refused_as_a_whole(&response.response_header) {
        return ending;
    }
    match response.results.as_deref() {
        // A clamped value, for one, is worth a word.
        Some([status]) => by_status(*status, String::new(), || (status.bits() != 0).then(|| json!({ "status": status_text(*status) }))),
        _ => strange(),
    }
}

async fn send(session: &Session, within: Duration, request: impl Into<RequestMessage>) -> Result<ResponseMessage, Error> {
    let late = |_| Err(Error::new(StatusCode::BadTimeout, "the secure channel was not renewed in time"));
    timeout(within + RENEWAL, session.channel().send(request, within)).await.unwrap_or_else(late)
}

/// What became of a request to which no answer of its own came.
fn unanswered(answer: Result<ResponseMessage, Error>, within: Duration) -> Ending {
    let error = match answer {
        Ok(ResponseMessage::ServiceFault(fault)) => {
            return refused_as_a_whole(&fault.response_header).unwrap_or_else(strange);
        }
        Ok(_) => return strange(),
        Err(error) => error,
    };
    match error.status() {
        // Only said where there is no connection over which it could have been sent.
        StatusCode::BadNotConnected => Ending::NotDone(refusal(Reason::DeviceAway, "the server is not connected".to_owned())),
        StatusCode::BadTimeout => {
            Ending::Unknown(refusal(Reason::NoAnswer, format!("the server did not answer within {} ms", within.as_millis())))
        }
        status => {
            let status = status_text(status);
            Ending::Unknown(refusal(Reason::NoAnswer, format!("the connection was lost before the server answered: {status}")))
        }
    }
}

fn strange() -> Ending {
    Ending::Unknown(refusal(Reason::NoAnswer, "the server's answer does not belong to what it was asked for".to_owned()))
}

/// What the service itself says, if it is not good.
fn refused_as_a_whole(header: &ResponseHeader) -> Option<Ending> {
    let status = header.service_result;
    (!status.is_good()).then(|| by_status(status, String::new(), || None))
}

fn of_call(offered: &Offered, result: &CallMethodResult) -> Ending {
    let inputs = offered.method.inputs.iter().zip(result.input_argument_results.iter().flatten());
    let wrong = inputs.filter(|(_, status)| !status.is_good());
    let arguments: String = wrong.map(|(input, status)| format!("; argument {}: {}", input.name, status_text(*status))).collect();
    by_status(result.status_code, arguments, || outputs(offered, result.output_arguments.as_deref().unwrap_or_default()))
}

/// What an answer means. `more`: what else it says.
fn by_status(status: StatusCode, more: String, result: impl FnOnce() -> Option<Json>) -> Ending {
    let words = format!("the server answered {}{more}", status_text(status));
    match status {
        StatusCode::GoodCompletesAsynchronously => {
            Ending::Unknown(refusal(Reason::NoAnswer, format!("{words}: it has begun, and nobody tells when it is done")))
        }
        status if status.is_good() => Ending::Done(result()),
        status if REFUSED.contains(&status) => Ending::NotDone(refusal(Reason::DeviceRefused, words)),
        status if NO_SESSION.contains(&status) => Ending::NotDone(refusal(Reason::DeviceAway, words)),
        // It may have begun to work before it found out; uncertain is what it says.
        _ => Ending::Unknown(refusal(Reason::DeviceRefused, words)),
    }
}

/// What a method gave back: by name where each has one.
fn outputs(offered: &Offered, given: &[Variant]) -> Option<Json> {
    if given.is_empty() {
        return None;
    }
    let names: Vec<&str> = offered.method.outputs.iter().map(|output| output.name.as_str()).collect();
    let values = given.iter().enumerate().map(|(i, variant)| {
        let mut json = Vec::new();
        value(variant, &offered.outputs.get(i).cloned().unwrap_or_default()).write(&mut json);
        // Values are written as JSON.
        serde_json::from_slice::<Json>(&json).unwrap_or_default()
    });
    let is_named = names.len() == given.len() && names.iter().enumerate().all(|(i, name)| !name.is_empty() && !names[..i].contains(name));
    Some(match is_named {
        true => names.iter().map(|name| (*name).to_owned()).zip(values).collect::<Map<String, Json>>().into(),
        false => values.collect::<Vec<Json>>().into(),
    })
}

fn refusal(reason: Reason, detail: String) -> Refusal {
    Refusal { reason, detail }
}

#[cfg(test)]
mod tests {
    use super::{NO_SESSION, REFUSED, by_status, of_call};
    use crate::arguments::Declared;
    use crate::meaning::Meaning;
    use crate::methods::{Method, Parameter};
    use crate::offer::Offered;
    use asset_stream::command::status::Reason;
    use gateway::Ending;
    use opcua::types::{CallMethodResult, NodeId, StatusCode, Variant};
    use serde_json::json;

    fn method(outputs: &[&str]) -> Offered {
        let parameter =
            |name: &&str| Parameter { name: (*name).to_owned(), description: String::new(), data_type: NodeId::new(0, 11), value_rank: -1 };
        let method = Method {
            name: "Move".into(),
            object: NodeId::new(2, 1),
            method: NodeId::new(2, 2),
            description: String::new(),
            inputs: [&"x", &"y"].into_iter().map(parameter).collect(),
            outputs: outputs.iter().map(parameter).collect(),
        };
        Offered { method, inputs: vec![Declared::default(); 2], outputs: vec![Meaning::with_names([(1, "On")]); outputs.len()] }
    }

    fn result(status_code: StatusCode, outputs: Vec<Variant>) -> CallMethodResult {
        CallMethodResult { status_code, output_arguments: Some(outputs), ..CallMethodResult::default() }
    }

    #[test]
    fn a_refusal_is_told_from_an_attempt_that_failed() {
        let ending = |status| by_status(status, String::new(), || None);
        for status in REFUSED {
            assert!(matches!(ending(status), Ending::NotDone(refusal) if refusal.reason == Reason::DeviceRefused), "{status}");
        }
        for status in NO_SESSION {
            assert!(matches!(ending(status), Ending::NotDone(refusal) if refusal.reason == Reason::DeviceAway), "{status}");
        }
        for status in [
            StatusCode::BadInternalError,
            StatusCode::BadTimeout,
            StatusCode::BadRequestTimeout,
            StatusCode::BadUnexpectedError,
            StatusCode::BadInvalidState,
            StatusCode::BadShutdown,
            StatusCode::BadResponseTooLarge,
            StatusCode::BadEncodingLimitsExceeded,
            StatusCode::Uncertain,
            StatusCode::Bad,
        ] {
            assert!(matches!(ending(status), Ending::Unknown(refusal) if refusal.reason == Reason::DeviceRefused), "{status}");
        }
        assert_eq!(ending(StatusCode::Good), Ending::Done(None));
        assert!(matches!(ending(StatusCode::GoodCompletesAsynchronously), Ending::Unknown(_)));
    }

    #[test]
    fn a_refusal_names_the_arguments_that_it_is_about() {
        let mut refused = result(StatusCode::BadInvalidArgument, Vec::new());
        refused.input_argument_results = Some(vec![StatusCode::Good, StatusCode::BadTypeMismatch]);
        let Ending::NotDone(refusal) = of_call(&method(&[]), &refused) else { panic!("refused") };
        assert_eq!(refusal.detail, "the server answered BadInvalidArgument (0x80AB0000); argument y: BadTypeMismatch (0x80740000)");
    }

    #[test]
    fn results_have_names_where_the_server_gives_each_one() {
        let done = |names: &[&str], outputs: Vec<Variant>| match of_call(&method(names), &result(StatusCode::Good, outputs)) {
            Ending::Done(result) => result,
            other => panic!("{other:?}"),
        };
        let two = || vec![Variant::Int32(1), Variant::UInt64(u64::MAX)];
        assert_eq!(done(&["state", "count"], two()), Some(json!({"state": "On", "count": u64::MAX})));
        assert_eq!(done(&["", "count"], two()), Some(json!(["On", u64::MAX])));
        assert_eq!(done(&["a", "a"], two()), Some(json!(["On", u64::MAX])));
        assert_eq!(done(&["state"], two()), Some(json!(["On", u64::MAX])));
        assert_eq!(done(&[], Vec::new()), None);
    }
}
