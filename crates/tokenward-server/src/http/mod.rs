//! What every HTTP answer of the server has in common: problems, negotiation, request ids, callers, log lines.

mod body;
mod caller;
pub(crate) mod grpc;
mod negotiate;
mod oauth;
mod observe;
mod problem;
mod rest;
mod trace;

pub(crate) use body::{Fault, MAX_BODY, Members, Rejected, read, within};
pub(crate) use caller::{Peer, TrustedProxies};
pub(crate) use negotiate::{accepts_gzip, prefers, revalidates};
pub(crate) use oauth::{oauth_error, oauth_too_large, oauth_unavailable};
pub(crate) use observe::{Answered, Caller, Handler, Observer, Reason, observe, observed, refused_head};
pub(crate) use problem::{
    STORE_UNAVAILABLE, bad_request, denial, denial_as, internal, no_route, not_found, overtaken, problem,
    problem_with, store_unavailable, too_many_requests, unavailable, wrong_method,
};

use futures_util::future::{BoxFuture, Shared};
use problem::body_too_large;

/// Completes when no new work is taken on any more.
pub(crate) type Drain = Shared<BoxFuture<'static, ()>>;
