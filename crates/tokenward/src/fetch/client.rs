//! The HTTP client: each hop dials, judges, asks once and hangs up.
//!
//! There is no pool of connections. Key sets are fetched minutes apart, so a pool would only hold sockets, and
//! every answer here comes over a connection whose address and certificate were judged under the guards of the
//! request itself.

use std::{future::Future, io, net::IpAddr, pin::pin, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::future::{Either, select};
use http::{
    HeaderMap, HeaderValue, Request, StatusCode,
    header::{
        ACCEPT, ACCEPT_ENCODING, CONNECTION, HOST, IF_MODIFIED_SINCE, IF_NONE_MATCH, LOCATION, USER_AGENT,
    },
};
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokenward_core::{BoxFuture, Clock, Timestamp};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use url::{Host, Position, Url};

use super::{
    Fetch, FetchRequest, FetchResponse, body,
    error::{FetchError, FetchErrorKind, place},
    guard::Guards,
    resolve::{Resolve, SystemResolver},
    retry::retry_after,
    tls::Tls,
    within,
};

/// From the host's name to a connection, over all its addresses.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// Of a host's addresses no more are tried, so that each has some of that time.
const MOST_ADDRESSES: usize = 8;

/// Heads of answers, and lines of chunked bodies, are not read beyond this.
const MOST_HEAD_BYTES: usize = 64 << 10;

const AGENT: &str = concat!("tokenward/", env!("CARGO_PKG_VERSION"));

/// Fetches over HTTP/1.1 and TLS under the [`Guards`] of each request.
///
/// Proxies that the environment names are not used. Neither cookies nor credentials are ever sent.
pub struct HttpFetcher {
    clock: Arc<dyn Clock>,
    resolver: Arc<dyn Resolve>,
    tls: Tls,
}

impl HttpFetcher {
    /// A fetcher that trusts the platform's roots and asks the system's resolver. It reads the roots from disk
    /// now, with the variables `SSL_CERT_FILE` and `SSL_CERT_DIR` honoured.
    ///
    /// # Errors
    ///
    /// [`FetchErrorKind::Tls`] where TLS cannot be set up. A platform without any roots is no error: what is
    /// fetched must bring its own then.
    pub fn new(clock: Arc<dyn Clock>) -> Result<Self, FetchError> {
        let tls = Tls::new(Arc::clone(&clock))?;
        Ok(Self {
            clock,
            resolver: Arc::new(SystemResolver::new()),
            tls,
        })
    }

    /// Asks `resolver` for the addresses of hosts. They are judged like the system's.
    #[must_use]
    pub fn with_resolver(mut self, resolver: Arc<dyn Resolve>) -> Self {
        self.resolver = resolver;
        self
    }

    async fn follow(&self, request: &FetchRequest) -> Result<FetchResponse, FetchError> {
        let guards = &request.guards;
        let mut url = request.url.clone();
        guards.admit(&url, None)?;
        let mut hops = 0;
        loop {
            let next = match self.hop(&url, request).await? {
                Answer::Final(response) => return Ok(response),
                Answer::Elsewhere(next) => next,
            };
            if hops >= guards.max_redirects {
                let message = format!("{}: redirected more than {hops} times", place(&request.url));
                return Err(FetchError::new(FetchErrorKind::RedirectLimit, message));
            }
            hops += 1;
            guards.admit(&next, Some(&url))?;
            url = next;
        }
    }

    async fn hop(&self, url: &Url, request: &FetchRequest) -> Result<Answer, FetchError> {
        let stream = self.connect(url, &request.guards).await?;
        if url.scheme() == "https" {
            let stream = self.tls.connect(url, &request.guards, stream).await?;
            exchange(url, request, stream, self.clock.wall()).await
        } else {
            exchange(url, request, stream, self.clock.wall()).await
        }
    }

    async fn connect(&self, url: &Url, guards: &Guards) -> Result<TcpStream, FetchError> {
        let limit = CONNECT_TIMEOUT.min(guards.retry.attempt);
        let until = self.clock.steady() + limit;
        let known = within(&*self.clock, limit, self.addresses(url)).await;
        let known = known.unwrap_or_else(|| Err(no_connection_in_time(url)))?;
        self.dial(url, guards, &known, until).await
    }

    /// Connects to the first of the host's `known` addresses that is allowed and answers. Each has an equal share of the
    /// time that is left, so that a dead one does not use up the living one's.
    async fn dial(
        &self,
        url: &Url,
        guards: &Guards,
        known: &[IpAddr],
        until: Timestamp,
    ) -> Result<TcpStream, FetchError> {
        let port = url.port_or_known_default().unwrap_or_default();
        let allowed: Vec<IpAddr> = known
            .iter()
            .copied()
            .filter(|address| guards.admits_address(*address))
            .take(MOST_ADDRESSES)
            .collect();
        let mut failure = match known.first() {
            Some(address) => FetchError::new(
                FetchErrorKind::AddressForbidden,
                format!(
                    "{}: its address, {address}, is none that may be connected to",
                    place(url)
                ),
            ),
            None => FetchError::new(
                FetchErrorKind::Dns,
                format!("{}: the host has no address", place(url)),
            ),
        };
        let mut untried = u32::try_from(allowed.len()).unwrap_or(u32::MAX);
        for address in allowed {
            let share = until.since(self.clock.steady()) / untried.max(1);
            untried = untried.saturating_sub(1);
            match within(&*self.clock, share, TcpStream::connect((address, port))).await {
                Some(Ok(stream)) => {
                    // A head and a short request: waiting to fill packets only costs time. It works without.
                    let _ = stream.set_nodelay(true);
                    return Ok(stream);
                }
                Some(Err(error)) => failure = no_connection(url, &error),
                None => failure = no_connection_in_time(url),
            }
        }
        Err(failure)
    }

    async fn addresses(&self, url: &Url) -> Result<Vec<IpAddr>, FetchError> {
        match url.host() {
            Some(Host::Domain(name)) => self.resolver.resolve(name).await.map_err(|error| {
                let message = format!("{}: the host's name could not be resolved", place(url));
                FetchError::new(FetchErrorKind::Dns, message).caused_by(&error)
            }),
            Some(Host::Ipv4(address)) => Ok(vec![address.into()]),
            Some(Host::Ipv6(address)) => Ok(vec![address.into()]),
            None => Ok(Vec::new()),
        }
    }
}

impl Fetch for HttpFetcher {
    fn fetch<'a>(&'a self, request: &'a FetchRequest) -> BoxFuture<'a, Result<FetchResponse, FetchError>> {
        Box::pin(async move {
            let limit = request.guards.retry.attempt;
            within(&*self.clock, limit, self.follow(request))
                .await
                .unwrap_or_else(|| {
                    let message = format!("{}: no complete answer within {limit:?}", place(&request.url));
                    Err(FetchError::new(FetchErrorKind::Timeout, message))
                })
        })
    }
}

fn no_connection(url: &Url, error: &io::Error) -> FetchError {
    FetchError::new(FetchErrorKind::Connect, format!("{}: no connection", place(url))).caused_by(error)
}

fn no_connection_in_time(url: &Url) -> FetchError {
    FetchError::new(
        FetchErrorKind::ConnectTimeout,
        format!("{}: no connection in time", place(url)),
    )
}

/// What one hop came to.
enum Answer {
    Final(FetchResponse),
    Elsewhere(Url),
}

/// Asks once over a connection of its own.
async fn exchange<S>(
    url: &Url,
    request: &FetchRequest,
    stream: S,
    now: Timestamp,
) -> Result<Answer, FetchError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let head = head(url, request)?;
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(MOST_HEAD_BYTES)
        .max_header_size(MOST_HEAD_BYTES)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| broken(url, &error))?;
    let ask = async {
        let response = sender
            .send_request(head)
            .await
            .map_err(|error| broken(url, &error))?;
        let (parts, body) = response.into_parts();
        match parts.status {
            StatusCode::OK => {
                let body = body::read(url, &parts.headers, body, request.guards.max_response_bytes).await?;
                Ok(answer(url, parts.status, parts.headers, body))
            }
            StatusCode::NOT_MODIFIED => Ok(answer(url, parts.status, parts.headers, Bytes::new())),
            StatusCode::MOVED_PERMANENTLY
            | StatusCode::FOUND
            | StatusCode::SEE_OTHER
            | StatusCode::TEMPORARY_REDIRECT
            | StatusCode::PERMANENT_REDIRECT => location(url, &parts.headers).map(Answer::Elsewhere),
            // Its body is not read: it could hold anything, and is to appear nowhere.
            status => Err(FetchError::status_of(
                url,
                status.as_u16(),
                retry_after(&parts.headers, now),
            )),
        }
    };
    alongside(connection, ask).await
}

/// Drives `connection` for as long as `ask` needs it, in this task: what drops the fetch drops the socket too.
async fn alongside<T>(connection: impl Future, ask: impl Future<Output = T>) -> T {
    match select(pin!(ask), pin!(connection)).await {
        Either::Left((done, _)) => done,
        // It ends when the server hangs up. What it has delivered until then can still be read.
        Either::Right((_, ask)) => ask.await,
    }
}

fn head(url: &Url, request: &FetchRequest) -> Result<Request<Empty<Bytes>>, FetchError> {
    let unfit = |error: http::Error| {
        FetchError::new(
            FetchErrorKind::UrlInvalid,
            format!("{}: it fits into no request", place(url)),
        )
        .caused_by(&error)
    };
    let mut head = Request::get(&url[Position::BeforePath..Position::AfterQuery])
        .header(HOST, &url[Position::BeforeHost..Position::AfterPort])
        .header(USER_AGENT, AGENT)
        .header(ACCEPT, request.accept)
        .header(ACCEPT_ENCODING, "gzip")
        .header(CONNECTION, "close")
        .body(Empty::new())
        .map_err(unfit)?;
    for (name, value) in [
        (IF_NONE_MATCH, &request.etag),
        (IF_MODIFIED_SINCE, &request.last_modified),
    ] {
        // A validator that is no header value came from elsewhere than from an answer; without it the answer
        // is only longer.
        if let Some(Ok(value)) = value.as_deref().map(HeaderValue::from_str) {
            head.headers_mut().insert(name, value);
        }
    }
    Ok(head)
}

fn answer(url: &Url, status: StatusCode, headers: HeaderMap, body: Bytes) -> Answer {
    Answer::Final(FetchResponse {
        status: status.as_u16(),
        headers,
        body,
        final_url: url.clone(),
    })
}

/// Where a redirect leads (RFC 9110 section 10.2.2).
fn location(url: &Url, headers: &HeaderMap) -> Result<Url, FetchError> {
    let mut values = headers.get_all(LOCATION).iter();
    let next = match (values.next(), values.next()) {
        (Some(value), None) => value.to_str().ok().and_then(|text| url.join(text).ok()),
        _ => None,
    };
    let mut next = next.ok_or_else(|| {
        let message = format!("{}: a redirect without a usable Location", place(url));
        FetchError::new(FetchErrorKind::RedirectInvalid, message)
    })?;
    next.set_fragment(None);
    Ok(next)
}

fn broken(url: &Url, error: &hyper::Error) -> FetchError {
    let (kind, what) = if error.is_parse() {
        (FetchErrorKind::Protocol, "the answer is not HTTP as we accept it")
    } else {
        (
            FetchErrorKind::Connection,
            "the connection broke before an answer",
        )
    };
    FetchError::new(kind, format!("{}: {what}", place(url))).caused_by(error)
}
