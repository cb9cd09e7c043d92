//! Pages over HTTP: on this machine for everybody, beyond it over TLS and for those alone who know a token.

mod connections;

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum_server::Handle;
use axum_server::accept::Accept;
use axum_server::tls_rustls::{RustlsAcceptor, RustlsConfig};
use connections::{Connections, Limits};
use hyper_util::rt::TokioTimer;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::secret;

/// How often the certificate's files are looked at.
const RENEWED: Duration = Duration::from_secs(30);
/// How long clients may take to get their answer when the server ends.
const GRACE: Duration = Duration::from_secs(1);

/// How pages are protected: a table of a config file.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Access {
    /// The server's certificate, with its issuers if it has any; PEM. A renewed one is used within half a minute.
    pub certificate: PathBuf,
    /// Its private key; PEM.
    pub key: PathBuf,
    /// File that holds a token alone: who sends `Authorization: Bearer <token>` sees the pages.
    pub token_file: PathBuf,
}

/// Why pages cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address is in use, or not this machine's.
    #[error("{key}: cannot listen on {address}")]
    Listen {
        /// The key of the config.
        key: &'static str,
        /// The address.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Certificate or key are none.
    #[error("the certificate {} and its key {} cannot be used", access.certificate.display(), access.key.display())]
    Certificate {
        /// What names them.
        access: Box<Access>,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl Access {
    /// Makes relative paths relative to the config file's folder.
    pub fn resolve_paths(&mut self, folder: &Path) {
        for file in [&mut self.certificate, &mut self.key, &mut self.token_file] {
            *file = secret::locate(folder, file);
        }
    }

    /// Reads certificate and key, and looks whether they belong together.
    fn tls(&self) -> Result<Arc<ServerConfig>, Error> {
        self.server_config().map(Arc::new).map_err(|source| Error::Certificate { access: Box::new(self.clone()), source })
    }

    fn server_config(&self) -> Result<ServerConfig, Box<dyn std::error::Error + Send + Sync>> {
        let certificates: Vec<_> = CertificateDer::pem_file_iter(&self.certificate)?.collect::<Result<_, _>>()?;
        let key = PrivateKeyDer::from_pem_file(&self.key)?;
        let builder = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
        let mut config = builder.with_safe_default_protocol_versions()?.with_no_client_auth().with_single_cert(certificates, key)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    }

    fn files(&self) -> [Option<Vec<u8>>; 2] {
        [&self.certificate, &self.key].map(|file| std::fs::read(file).ok())
    }
}

/// What is wrong with serving pages at the address, as (key below that table, message). `table`: where the access is configured.
pub fn problems(address: Option<SocketAddr>, access: Option<&Access>, table: &str) -> Vec<(&'static str, String)> {
    let Some(access) = access else {
        let reachable = address.filter(|address| !address.ip().is_loopback());
        let told = |address| {
            format!("other machines can reach {address}: add [{table}] with certificate, key and token_file, or listen on 127.0.0.1")
        };
        return reachable.map(|address| ("", told(address))).into_iter().collect();
    };
    let mut problems = Vec::new();
    problems.extend(secret::check(&access.key).err().map(|error| ("key", crate::error::chain(&error))));
    let is_token = |token: &str| (16..=1024).contains(&token.len()) && token.bytes().all(|byte| byte.is_ascii_graphic());
    match secret::read(&access.token_file) {
        Err(error) => problems.push(("token_file", crate::error::chain(&error))),
        Ok(token) if is_token(&token) => {}
        Ok(_) => {
            let message = "a token has 16 to 1,024 characters, and no spaces or line ends; make one with: openssl rand -hex 32";
            problems.push(("token_file", message.into()));
        }
    }
    match std::fs::File::open(&access.certificate) {
        Err(error) => problems.push(("certificate", format!("{} cannot be read: {error}", access.certificate.display()))),
        // What is wrong with the key is said already.
        Ok(_) if problems.iter().any(|(key, _)| *key == "key") => {}
        Ok(_) => problems.extend(access.tls().err().map(|error| ("certificate", crate::error::chain(&error)))),
    }
    problems
}

/// A server that is bound and not yet serving.
pub struct Server {
    listener: TcpListener,
    protected: Option<(Access, RustlsConfig)>,
}

impl Server {
    /// Binds, so that an address in use and a bad certificate are told before anything else starts. `key`: what names the address.
    pub async fn open(key: &'static str, address: SocketAddr, access: Option<&Access>) -> Result<Self, Error> {
        let protected = match access {
            Some(access) => Some((access.clone(), RustlsConfig::from_config(access.tls()?))),
            None => None,
        };
        let listener = TcpListener::bind(address).await.map_err(|source| Error::Listen { key, address, source })?;
        Ok(Self { listener, protected })
    }

    /// Where it listens.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves the pages until `stop`. Clients that do nothing, and clients beyond those that pages are for, lose their connection.
    pub async fn serve(self, pages: Router, stop: CancellationToken) {
        self.serve_within(Limits::default(), pages, stop).await;
    }

    async fn serve_within(self, limits: Limits, pages: Router, stop: CancellationToken) {
        let connections = Connections::new(limits);
        let ended = match self.protected {
            None => answer(self.listener, connections, limits, pages, stop).await,
            Some((access, tls)) => {
                tokio::spawn(renew(access.clone(), tls.clone(), stop.clone()));
                let pages = pages.layer(from_fn_with_state(access, check_token));
                answer(self.listener, RustlsAcceptor::new(tls).acceptor(connections), limits, pages, stop).await
            }
        };
        if let Err(error) = ended {
            warn!(%error, "the HTTP server ended");
        }
    }
}

async fn answer<A>(listener: TcpListener, acceptor: A, limits: Limits, pages: Router, stop: CancellationToken) -> io::Result<()>
where
    A: Accept<TcpStream, Router, Service = Router> + Clone + Send + Sync + 'static,
    A::Stream: AsyncRead + AsyncWrite + Unpin + Send,
    A::Future: Send,
{
    let handle = Handle::new();
    let end = handle.clone();
    tokio::spawn(async move {
        stop.cancelled().await;
        end.graceful_shutdown(Some(GRACE));
    });
    let mut server = axum_server::from_tcp(listener.into_std()?)?.acceptor(acceptor).http1_only().handle(handle);
    server.http_builder().http1().timer(TokioTimer::new()).header_read_timeout(limits.head);
    server.serve(pages.into_make_service()).await
}

async fn renew(access: Access, tls: RustlsConfig, stop: CancellationToken) {
    let (mut used, mut refused) = (access.files(), None);
    while stop.run_until_cancelled(tokio::time::sleep(RENEWED)).await.is_some() {
        let files = access.files();
        if files == used || refused.as_ref() == Some(&files) {
            continue;
        }
        match access.tls() {
            Ok(renewed) => {
                tls.reload_from_config(renewed);
                info!(certificate = %access.certificate.display(), "the renewed certificate is used from now on");
                used = files;
            }
            // Certificate and key are two files: one of them may still be the old one.
            Err(error) => {
                warn!(certificate = %access.certificate.display(), error = %crate::error::chain(&error), "the new certificate cannot be used; the one before still is");
                refused = Some(files);
            }
        }
    }
}

/// The token is read at each request: they are few, and a changed one counts at once.
async fn check_token(State(access): State<Access>, request: Request, next: Next) -> Response {
    let token = match secret::read(&access.token_file) {
        Ok(token) => token,
        Err(error) => {
            warn!(error = %crate::error::chain(&error), "nobody can be let in");
            return StatusCode::SERVICE_UNAVAILABLE.into_response();
        }
    };
    let given = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()?.split_once(' '));
    let given = given.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("Bearer")).map(|(_, token)| token);
    // Digests are compared, so that the time it takes says nothing about the token.
    match given {
        Some(given) if Sha256::digest(given.trim()) == Sha256::digest(token) => next.run(request).await,
        _ => (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, "Bearer")], "a token is needed\n").into_response(),
    }
}

#[cfg(test)]
mod tests;
