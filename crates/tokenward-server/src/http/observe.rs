//! Around every request: ids, the limit on bodies, what is left of them, one log line, metrics, and a 500 in place of a torn connection.

use std::{
    convert::Infallible,
    net::{IpAddr, Ipv6Addr},
    panic::AssertUnwindSafe,
    sync::Arc,
    time::Duration,
};

use axum::{
    body::HttpBody as _,
    extract::{MatchedPath, Request, State},
    middleware::Next,
    response::Response,
};
use futures_util::FutureExt as _;
use http::{Extensions, HeaderValue, Method, StatusCode, Version, header};
use tokenward_core::Clock;
use tower::{Service, service_fn};

use super::{TrustedProxies, body_too_large, internal, oauth_too_large, rest, trace::Ids};
use crate::telemetry::Requests;

/// Where proxies ask about a request whose body they may send along. It is thrown away, and refusing it would refuse the
/// request.
const ASKED_BY_PROXIES: &str = "/authorize/";

/// Where refusals are worded as OAuth has them.
const OF_OAUTH: &str = "/oauth/";

/// How much of such a body is thrown away, in bytes, before the connection is given up instead.
const MAX_BODY_ALONG: usize = 1_024 * 1_024;

/// Why a request was answered as it was: a stable code, left by the handler in the response's extensions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reason(pub(crate) &'static str);

/// An answer, and what is noted of it.
pub(crate) struct Answered {
    pub(crate) response: Response,
    /// A stable code.
    pub(crate) reason: Option<&'static str>,
    /// Where the one who asks is not the one whom the request is from.
    pub(crate) caller: Option<IpAddr>,
}

impl From<Response> for Answered {
    /// With the reason that is in its extensions.
    fn from(response: Response) -> Self {
        let reason = response.extensions().get::<Reason>();
        Self {
            reason: reason.map(|reason| reason.0),
            caller: None,
            response,
        }
    }
}

/// Answers the requests of a route that somebody asks before each request of his own.
pub(crate) trait Handler: Send + Sync + 'static {
    fn answer(&self, caller: Caller, request: Request) -> impl Future<Output = Answered> + Send;
}

/// A handler, and around it what [`observe`] does, but not the router's layers, which take longer than both.
pub(crate) fn observed<H: Handler>(
    observer: &Arc<Observer>,
    route: &'static str,
    handler: H,
) -> impl Service<Request, Response = Response, Error = Infallible, Future: Send> + Clone + Send + Sync + use<H>
{
    let shared = Arc::new((Arc::clone(observer), handler));
    service_fn(move |request| {
        let shared = Arc::clone(&shared);
        async move {
            let (observer, handler) = &*shared;
            let answer = |caller, request| handler.answer(caller, request);
            Ok(observer.watch(route, request, answer).await)
        }
    })
}

/// What the observer of one listener needs to know.
pub(crate) struct Observer {
    /// The listener's name, for logs.
    pub(crate) listener: &'static str,
    pub(crate) requests: Requests,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) proxies: Arc<TrustedProxies>,
    /// The longest body that a request may announce, in bytes. A larger one is answered with 413.
    pub(crate) max_body: usize,
    /// Whether each request gets a log line.
    pub(crate) log: bool,
}

/// The caller of a request, found once for all that ask.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Caller(pub(crate) IpAddr);

impl Caller {
    /// The caller of a request that has passed [`observe`].
    pub(crate) fn of(extensions: &Extensions) -> Self {
        let unknown = Self(IpAddr::from([0, 0, 0, 0]));
        extensions.get().copied().unwrap_or(unknown)
    }

    /// What counts as one caller where calls are counted. A host commands a whole /64 of IPv6.
    pub(crate) fn network(self) -> IpAddr {
        match self.0 {
            IpAddr::V6(address) => {
                let [a, b, c, d, ..] = address.segments();
                Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
            }
            IpAddr::V4(_) => self.0,
        }
    }
}

/// The middleware itself. It belongs around the routes and the fallbacks.
pub(crate) async fn observe(State(observer): State<Arc<Observer>>, request: Request, next: Next) -> Response {
    // The template, never the path: a path is the client's text, and may hold what it should not.
    let route = request.extensions().get::<MatchedPath>().cloned();
    let route = route.as_ref().map_or("unmatched", MatchedPath::as_str);
    let answer = |caller: Caller, mut request: Request| {
        request.extensions_mut().insert(caller);
        next.run(request).map(Answered::from)
    };
    observer.watch(route, request, answer).await
}

impl Observer {
    async fn watch<F: Future<Output = Answered>>(
        &self,
        route: &str,
        mut request: Request,
        answer: impl FnOnce(Caller, Request) -> F,
    ) -> Response {
        let started = self.clock.steady();
        let ids = Ids::of(request.headers());
        let caller = self.proxies.caller(request.extensions(), request.headers());
        let method = method(request.method());

        // On HTTP/2 a body that is not read costs no other request.
        let in_a_row = request.version() < Version::HTTP_2;
        let along = request.uri().path().starts_with(ASKED_BY_PROXIES);
        let most = if along { MAX_BODY_ALONG } else { self.max_body };
        let (answered, spent) = if !along && request.body().size_hint().lower() > most as u64 {
            let refused = match request.uri().path().starts_with(OF_OAUTH) {
                true => oauth_too_large(),
                false => body_too_large(),
            };
            (refused.into(), false)
        } else {
            let rest = if in_a_row {
                rest::lend(request.body_mut())
            } else {
                None
            };
            // A fault in one request is no reason to tear down the others of its connection. Handlers share nothing
            // that they mutate in steps.
            let answered = AssertUnwindSafe(async { answer(Caller(caller), request).await })
                .catch_unwind()
                .await
                .unwrap_or_else(|_| internal().into());
            let spent = match rest {
                Some(rest) => rest.drain(most, &*self.clock).await,
                None => true,
            };
            (answered, spent)
        };
        let Answered {
            mut response,
            reason,
            caller: about,
        } = answered;
        if in_a_row && !spent {
            response
                .headers_mut()
                .insert(header::CONNECTION, HeaderValue::from_static("close"));
        }

        let took = self.clock.steady().since(started);
        let status = response.status().as_u16();
        self.requests.count(route, method, status, took);
        if self.log {
            tracing::info!(
                listener = self.listener,
                method,
                route,
                status,
                duration_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
                caller = %about.unwrap_or(caller),
                reason,
                request_id = ids.request_id(),
                trace_id = ids.trace_id(),
                "request"
            );
        }
        ids.tell(response.headers_mut());
        response
    }
}

/// Counts and logs a request that no route has heard of: the listener refused its head by itself.
pub(crate) fn refused_head(listener: &'static str, caller: IpAddr, status: StatusCode, log: bool) {
    let (method, route, status) = ("other", "unmatched", status.as_u16());
    Requests::new(listener).count(route, method, status, Duration::ZERO);
    if log {
        let reason = "request_malformed";
        tracing::info!(listener, method, route, status, duration_ms = 0, %caller, reason, "request");
    }
}

/// One of a closed set, since a client may send any word as its method.
fn method(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        Method::PATCH => "PATCH",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}
