//! The client of a running server's API.

use std::{fmt::Display, net::IpAddr, path::PathBuf, sync::Arc, time::Duration};

use bytes::Bytes;
use clap::Args;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
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
    runtime::Builder,
    task::JoinSet,
};
use tokio_rustls::TlsConnector;
use url::{Host, Url, form_urlencoded};

use super::{
    Ending, Failure, input,
    output::{Output, Tone, harmless},
    runtime,
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
    /// The server's admin listener, or for tokens the public one too; else TOKENWARD_SERVER, else http://127.0.0.1:9090
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
    /// A client of what the arguments or the environment name, with the credential that they give.
    pub(super) fn new(
        args: &ServerArgs,
        environment: &Environment,
        output: &Output,
    ) -> Result<Self, Failure> {
        let mut client = Self::anonymous(args, environment)?;
        let secret = match (&args.credential_file, environment.get("TOKENWARD_CREDENTIAL")) {
            (Some(path), _) => Some(input::secret(path)?),
            (None, secret) => secret.map(SecretString::from),
        };
        client.authorization = secret.map(|secret| bearer(secret.expose_secret())).transpose()?;
        client.warn(output);
        Ok(client)
    }

    /// The same as the holder of `token`; no credential is looked at.
    pub(super) fn of_holder(
        args: &ServerArgs,
        token: &SecretString,
        environment: &Environment,
        output: &Output,
    ) -> Result<Self, Failure> {
        let mut client = Self::anonymous(args, environment)?;
        client.authorization = Some(bearer(token.expose_secret())?);
        client.warn(output);
        Ok(client)
    }

    fn anonymous(args: &ServerArgs, environment: &Environment) -> Result<Self, Failure> {
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
        let tls = match server.scheme() {
            "https" => Some(connector(args)?),
            _ => None,
        };
        Ok(Self {
            server,
            authorization: None,
            tls,
        })
    }

    fn warn(&self, output: &Output) {
        if self.authorization.is_some() && self.server.scheme() == "http" && !is_local(&self.server) {
            output.error(output.tint(
                Tone::Bad,
                "warning: the credential is sent in clear: use https beyond this machine",
            ));
        }
    }

    /// Asks, and waits for the whole answer. Redirects are not followed: the credential is for this server.
    pub(super) fn ask(
        &self,
        method: Method,
        path: &[&str],
        query: &[(&str, &str)],
        body: Option<Vec<u8>>,
    ) -> Result<Answer, Failure> {
        let request = self.request(method, path, query, body)?;
        runtime::run(Builder::new_current_thread(), async {
            let answered = async { self.open(request).await?.whole().await };
            self.in_time(answered).await
        })?
    }

    /// Asks, and leaves the body to be read as it comes.
    pub(super) async fn stream(
        &self,
        path: &[&str],
        query: &[(&str, &str)],
        headers: &[(HeaderName, &str)],
    ) -> Result<Open, Failure> {
        let mut request = self.request(Method::GET, path, query, None)?;
        for (name, value) in headers {
            let value = HeaderValue::try_from(*value).map_err(|error| Failure::usage(error.to_string()))?;
            request.headers_mut().insert(name, value);
        }
        self.in_time(self.open(request)).await
    }

    async fn in_time<T>(&self, answer: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        let answered = within(&SystemClock::new(), ANSWER_LIMIT, answer).await;
        answered.unwrap_or_else(|| Err(self.failed("no answer in time")))
    }

    fn failed(&self, error: impl Display) -> Failure {
        Failure::Network(format!("{}: {error}", self.server))
    }

    async fn open(&self, request: Request<Full<Bytes>>) -> Result<Open, Failure> {
        let failed = |error: hyper::Error| self.failed(error);
        let connected = within(&SystemClock::new(), CONNECT_LIMIT, self.connect()).await;
        let stream = connected
            .unwrap_or_else(|| Err("no connection in time".into()))
            .map_err(|error| self.failed(error))?;
        let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
        let (mut requests, connection) = handshake.map_err(failed)?;
        let mut task = JoinSet::new();
        task.spawn(async {
            // What fails is told to whoever waits for the answer.
            let _ = connection.await;
        });
        let (head, body) = requests.send_request(request).await.map_err(failed)?.into_parts();
        Ok(Open {
            status: head.status,
            headers: head.headers,
            server: self.server.clone(),
            body,
            _connection: task,
        })
    }

    fn request(
        &self,
        method: Method,
        path: &[&str],
        query: &[(&str, &str)],
        body: Option<Vec<u8>>,
    ) -> Result<Request<Full<Bytes>>, Failure> {
        let mut target = self.server.path().trim_end_matches('/').to_owned();
        for segment in path {
            target.push('/');
            target.push_str(&encoded(segment));
        }
        if !query.is_empty() {
            let mut pairs = form_urlencoded::Serializer::new(String::new());
            target.push('?');
            target.push_str(&pairs.extend_pairs(query).finish());
        }
        let host = self.server.host_str().unwrap_or_default();
        let host = self
            .server
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

/// An answer whose body is still to be read.
pub(super) struct Open {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    server: Url,
    body: Incoming,
    _connection: JoinSet<()>,
}

impl Open {
    /// The next piece of the body; None at its end.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, Failure> {
        loop {
            let failed = |error| Failure::Network(format!("{}: {error}", self.server));
            match self.body.frame().await.transpose().map_err(failed)? {
                None => return Ok(None),
                Some(frame) => {
                    if let Ok(data) = frame.into_data() {
                        return Ok(Some(data));
                    }
                }
            }
        }
    }

    /// All of it.
    pub(super) async fn whole(self) -> Result<Answer, Failure> {
        let failed = |error| Failure::Network(format!("{}: {error}", self.server));
        let body = Limited::new(self.body, MAX_ANSWER)
            .collect()
            .await
            .map_err(failed)?;
        Ok(Answer {
            status: self.status,
            body: body.to_bytes(),
        })
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
        if let Some(until) = text("until") {
            message.push_str(&format!("\nuntil: {until}"));
        }
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
            // A credential that is missing or wrong is the caller's mistake; a token that is not good is an answer.
            StatusCode::UNAUTHORIZED if !is_judged(&problem) => {
                message.push_str("\n--credential-file or TOKENWARD_CREDENTIAL gives a credential");
                Err(Failure::usage(message))
            }
            StatusCode::BAD_REQUEST | StatusCode::PAYLOAD_TOO_LARGE => Err(Failure::usage(message)),
            StatusCode::UNAUTHORIZED
            | StatusCode::FORBIDDEN
            | StatusCode::NOT_FOUND
            | StatusCode::CONFLICT => {
                output.error(format_args!("{} {message}", output.tint(Tone::Bad, "no:")));
                Ok(Ending::No)
            }
            _ => Err(Failure::Network(message)),
        }
    }
}

/// Whether a refusal is about a token that was judged.
fn is_judged(problem: &Value) -> bool {
    let code = problem.get("error_code").and_then(Value::as_str);
    code.is_some_and(|code| !code.starts_with("credential_"))
}

fn bearer(secret: &str) -> Result<HeaderValue, Failure> {
    let mut value = HeaderValue::try_from(format!("Bearer {secret}"))
        .map_err(|_| Failure::usage("the credential holds what cannot be sent in a header"))?;
    value.set_sensitive(true);
    Ok(value)
}

/// One segment of a path. Dots are encoded too: `..` is a name like any other here.
fn encoded(segment: &str) -> String {
    let encoded: String = form_urlencoded::byte_serialize(segment.as_bytes()).collect();
    encoded.replace('+', "%20").replace('.', "%2E")
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
