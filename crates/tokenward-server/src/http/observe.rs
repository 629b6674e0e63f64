//! Around every request: ids, the limit on bodies, what is left of them, one log line, metrics, and a 500 in place of a torn connection.

use std::{
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

use super::{TrustedProxies, body_too_large, internal, oauth_too_large, rest, trace::Ids};
use crate::telemetry;

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

/// What the observer of one listener needs to know.
#[derive(Clone)]
pub(crate) struct Observer {
    /// The listener's name, for logs and metrics.
    pub(crate) listener: &'static str,
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
pub(crate) async fn observe(State(observer): State<Observer>, mut request: Request, next: Next) -> Response {
    let started = observer.clock.steady();
    let ids = Ids::of(request.headers());
    let caller = observer.proxies.caller(request.extensions(), request.headers());
    request.extensions_mut().insert(Caller(caller));
    let method = method(request.method());
    // The template, never the path: a path is the client's text, and may hold what it should not.
    let route = request.extensions().get::<MatchedPath>().cloned();

    // On HTTP/2 a body that is not read costs no other request.
    let in_a_row = request.version() < Version::HTTP_2;
    let along = request.uri().path().starts_with(ASKED_BY_PROXIES);
    let most = if along { MAX_BODY_ALONG } else { observer.max_body };
    let (mut response, spent) = if !along && request.body().size_hint().lower() > most as u64 {
        let refused = match request.uri().path().starts_with(OF_OAUTH) {
            true => oauth_too_large(),
            false => body_too_large(),
        };
        (refused, false)
    } else {
        let rest = if in_a_row {
            rest::lend(request.body_mut())
        } else {
            None
        };
        // A fault in one request is no reason to tear down the others of its connection. Handlers share nothing
        // that they mutate in steps.
        let response = AssertUnwindSafe(next.run(request))
            .catch_unwind()
            .await
            .unwrap_or_else(|_| internal());
        let spent = match rest {
            Some(rest) => rest.drain(most, &*observer.clock).await,
            None => true,
        };
        (response, spent)
    };
    if in_a_row && !spent {
        response
            .headers_mut()
            .insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    ids.tell(response.headers_mut());

    // Where a proxy asks about a request, it is that request's.
    let caller = response
        .extensions()
        .get()
        .map_or(caller, |Caller(caller)| *caller);
    let route = route.as_ref().map_or("unmatched", MatchedPath::as_str);
    let took = observer.clock.steady().since(started);
    let status = response.status().as_u16();
    let reason = response.extensions().get::<Reason>().map(|reason| reason.0);
    telemetry::request(observer.listener, route, method, status, took);
    if observer.log {
        tracing::info!(
            listener = observer.listener,
            method,
            route,
            status,
            duration_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            %caller,
            reason,
            request_id = ids.request_id(),
            trace_id = ids.trace_id(),
            "request"
        );
    }
    response
}

/// Counts and logs a request that no route has heard of: the listener refused its head by itself.
pub(crate) fn refused_head(listener: &'static str, caller: IpAddr, status: StatusCode, log: bool) {
    let (method, route, status) = ("other", "unmatched", status.as_u16());
    telemetry::request(listener, route, method, status, Duration::ZERO);
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
