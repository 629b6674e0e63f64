//! The client of a running server's API.

use std::{net::IpAddr, path::PathBuf, sync::Arc, time::Duration};

use bytes::Bytes;
use clap::Args;
use http::{HeaderValue, Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::rt::TokioIo;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::Value;
use tokenward::SystemClock;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;
use url::{Host, Url};

use super::{
    Ending, Failure, input,
    output::{Output, Tone, harmless},
};
use crate::{config::Environment, http::within};

/// Where the admin listener is by default.
const DEFAULT_SERVER: &str = "http://127.0.0.1:9090";
/// For connecting, TLS included.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// For an answer: a refresh waits for the identity provider.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);
/// The largest answer that is read, in bytes.
const MAX_ANSWER: usize = 16 << 20;

/// Which server is asked, and as whom.
#[derive(Args)]
pub(super) struct ServerArgs {
    /// The server's admin listener; else TOKENWARD_SERVER, else http://127.0.0.1:9090
    #[arg(long, value_name = "URL")]
    server: Option<String>,
    /// A file that holds the credential's secret; else TOKENWARD_CREDENTIAL holds the secret itself
    #[arg(long, value_name = "FILE")]
    credential_file: Option<PathBuf>,
    /// Trust these certificates (PEM) beside the platform's
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
}

/// A server's API.
pub(super) struct Client {
    server: Url,
    /// `Authorization`, never shown.
    authorization: Option<HeaderValue>,
    tls: Option<TlsConnector>,
}

/// What the server said.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    body: Bytes,
}

impl Client {
    /// A client of what the arguments or the environment name.
    pub(super) fn new(
        args: &ServerArgs,
        environment: &Environment,
        output: &Output,
    ) -> Result<Self, Failure> {
        let named = args
            .server
            .as_deref()
            .or_else(|| environment.get("TOKENWARD_SERVER"));
        let server = Url::parse(named.unwrap_or(DEFAULT_SERVER))
            .ok()
            .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
            .filter(|url| url.username().is_empty() && url.password().is_none())
            .ok_or_else(|| {
                Failure::usage("the server must be an http or https URL without a user and a password")
            })?;
        let secret = match (&args.credential_file, environment.get("TOKENWARD_CREDENTIAL")) {
            (Some(path), _) => {
                let bytes = input::file(path)?;
                let text = String::from_utf8(bytes)
                    .map_err(|_| Failure::usage(format!("{}: not a secret in text", path.display())))?;
                Some(SecretString::from(text.trim_end().to_owned()))
            }
            (None, secret) => secret.map(SecretString::from),
        };
        let authorization = secret.map(|secret| {
            let mut value = HeaderValue::try_from(format!("Bearer {}", secret.expose_secret()))
                .map_err(|_| Failure::usage("the credential holds what cannot be sent in a header"))?;
            value.set_sensitive(true);
            Ok(value)
        });
        let authorization = authorization.transpose()?;
        if authorization.is_some() && server.scheme() == "http" && !is_local(&server) {
            output.error(output.tint(
                Tone::Bad,
                "warning: the credential is sent in clear: use https beyond this machine",
            ));
        }
        let tls = match server.scheme() {
            "https" => Some(connector(args)?),
            _ => None,
        };
        Ok(Self {
            server,
            authorization,
            tls,
        })
    }

    /// Asks, and waits for the whole answer. Redirects are not followed: the credential is for this server.
    pub(super) fn ask(
        &self,
        method: Method,
        path: &[&str],
        query: &[(&str, &str)],
        body: Option<Vec<u8>>,
    ) -> Result<Answer, Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime =
            runtime.map_err(|error| Failure::Network(format!("cannot start the runtime: {error}")))?;
        let request = self.request(method, path, query, body)?;
        let failed = |error: String| Failure::Network(format!("{}: {error}", self.server));
        runtime.block_on(async {
            let clock = SystemClock::new();
            let connected = within(&clock, CONNECT_LIMIT, self.connect()).await;
            let stream = connected
                .unwrap_or_else(|| Err("no connection in time".into()))
                .map_err(failed)?;
            let answered = within(&clock, ANSWER_LIMIT, exchange(stream, request)).await;
            answered
                .unwrap_or_else(|| Err("no answer in time".into()))
                .map_err(failed)
        })
    }

    fn request(
        &self,
        method: Method,
        path: &[&str],
        query: &[(&str, &str)],
        body: Option<Vec<u8>>,
    ) -> Result<Request<Full<Bytes>>, Failure> {
        let mut url = self.server.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        url.set_query(None);
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let target = match url.query() {
            Some(query) => format!("{}?{query}", url.path()),
            None => url.path().to_owned(),
        };
        let host = url.host_str().unwrap_or_default();
        let host = url
            .port()
            .map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
        let mut request = Request::builder()
            .method(method)
            .uri(target)
            .header(header::HOST, host)
            .header(
                header::USER_AGENT,
                concat!("tokenward/", env!("CARGO_PKG_VERSION")),
            )
            .header(header::ACCEPT, "application/json");
        if let Some(authorization) = &self.authorization {
            request = request.header(header::AUTHORIZATION, authorization);
        }
        if body.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        request
            .body(Full::from(body.unwrap_or_default()))
            .map_err(|error| Failure::usage(error.to_string()))
    }

    async fn connect(&self) -> Result<Box<dyn Stream>, String> {
        let port = self.server.port_or_known_default().unwrap_or(80);
        let connected = match self.server.host() {
            Some(Host::Domain(name)) => TcpStream::connect((name, port)).await,
            Some(Host::Ipv4(address)) => TcpStream::connect((address, port)).await,
            Some(Host::Ipv6(address)) => TcpStream::connect((address, port)).await,
            None => return Err("the address has no host".into()),
        };
        let stream = connected.map_err(|error| error.to_string())?;
        let Some(tls) = &self.tls else {
            return Ok(Box::new(stream));
        };
        let host = self
            .server
            .host_str()
            .unwrap_or_default()
            .trim_matches(['[', ']']);
        let name = ServerName::try_from(host.to_owned()).map_err(|error| error.to_string())?;
        let stream = tls.connect(name, stream).await;
        stream
            .map(|stream| Box::new(stream) as Box<dyn Stream>)
            .map_err(|error| format!("{error} (--ca-file names certificates to trust)"))
    }
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// One request and its whole answer.
async fn exchange(stream: Box<dyn Stream>, request: Request<Full<Bytes>>) -> Result<Answer, String> {
    let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
    let (mut requests, connection) = handshake.map_err(|error| error.to_string())?;
    let answer = async {
        let answer = requests
            .send_request(request)
            .await
            .map_err(|error| error.to_string())?;
        let (head, body) = answer.into_parts();
        let body = Limited::new(body, MAX_ANSWER).collect().await;
        Ok(Answer {
            status: head.status,
            body: body.map_err(|error| error.to_string())?.to_bytes(),
        })
    };
    let (mut answer, mut connection) = (std::pin::pin!(answer), std::pin::pin!(connection));
    tokio::select! {
        biased;
        answer = &mut answer => answer,
        // What it has received is still to be read when the connection has ended.
        ended = &mut connection => match ended {
            Ok(()) => answer.await,
            Err(error) => Err(error.to_string()),
        },
    }
}

impl Answer {
    /// The body as JSON.
    pub(super) fn json(&self) -> Result<Value, Failure> {
        serde_json::from_slice(&self.body).map_err(|_| {
            Failure::Network("the answer is not JSON: is this tokenward's admin listener?".into())
        })
    }

    /// What a refusal means for the command: the answer is no, the request was not right, or the server failed.
    pub(super) fn refusal(&self, output: &Output) -> Result<Ending, Failure> {
        let problem: Value = serde_json::from_slice(&self.body).unwrap_or_default();
        let text = |name: &str| problem.get(name).and_then(Value::as_str).map(harmless);
        let mut message = match (text("error_code"), text("detail")) {
            (Some(code), Some(detail)) => format!("{code}: {detail}"),
            _ => format!("the server answered {}", self.status),
        };
        for error in problem
            .get("errors")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
        {
            let part = |name: &str| {
                error
                    .get(name)
                    .and_then(Value::as_str)
                    .map(harmless)
                    .unwrap_or_default()
            };
            message.push_str(&format!("\n{}: {}", part("member"), part("message")));
        }
        match self.status {
            StatusCode::UNAUTHORIZED => {
                message.push_str("\n--credential-file or TOKENWARD_CREDENTIAL gives a credential");
                Err(Failure::usage(message))
            }
            StatusCode::BAD_REQUEST | StatusCode::PAYLOAD_TOO_LARGE => Err(Failure::usage(message)),
            StatusCode::FORBIDDEN | StatusCode::NOT_FOUND | StatusCode::CONFLICT => {
                output.error(format_args!("{} {message}", output.tint(Tone::Bad, "no:")));
                Ok(Ending::No)
            }
            _ => Err(Failure::Network(message)),
        }
    }
}

fn is_local(server: &Url) -> bool {
    match server.host() {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(address)) => IpAddr::from(address).is_loopback(),
        Some(Host::Ipv6(address)) => IpAddr::from(address).to_canonical().is_loopback(),
        None => false,
    }
}

/// TLS that trusts the platform's certificates (`SSL_CERT_FILE` is respected) and those of `--ca-file`.
fn connector(args: &ServerArgs) -> Result<TlsConnector, Failure> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(path) = &args.ca_file {
        let failed = |error: String| Failure::usage(format!("--ca-file {}: {error}", path.display()));
        let pem = input::file(path)?;
        for certificate in CertificateDer::pem_slice_iter(&pem) {
            let certificate = certificate.map_err(|error| failed(error.to_string()))?;
            roots
                .add(certificate)
                .map_err(|error| failed(error.to_string()))?;
        }
    }
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| Failure::usage(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}
