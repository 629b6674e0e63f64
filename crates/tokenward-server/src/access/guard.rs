//! In front of each call of the API: who asks, and may they?

use std::{
    future::Future,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
};

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse as _, Response},
};

use tokenward_store::AuditRecord;
use tokio::{sync::oneshot, task::JoinSet};

use super::{
    Access, Need, Refusal,
    audit::{Audit, Unavailable},
    client, origin,
};
use crate::{
    config::Credential,
    http::{Caller, Reason, STORE_UNAVAILABLE, internal, oauth_unavailable, unavailable},
    limits::{Exceeding, Standing, TokenApi},
};

pub(crate) use origin::Reach;

/// The longest part of a path that the audit log keeps, in characters. Every path that names something is shorter.
const MAX_TARGET: usize = 256;

/// Stands in front of the calls of one listener.
#[derive(Clone)]
pub(crate) struct Guard {
    access: Access,
    audit: Audit,
    reach: Reach,
    /// Of the calls that each address and each credential may make, where that is limited.
    limits: Option<TokenApi>,
    /// What is carried out to its end and is under way.
    changes: Arc<Mutex<JoinSet<()>>>,
}

/// The credential that a guarded call came with, in the request's extensions.
#[derive(Clone)]
pub(crate) struct Who(pub(crate) Arc<Credential>);

/// What a call was about, in the extensions of its response, where its path does not say it. The audit log has it instead.
#[derive(Clone)]
pub(crate) struct About(pub(crate) String);

/// Who made a call that asks for no credential, in the extensions of its response: the id of the parent token that proved it.
#[derive(Clone)]
pub(crate) struct Holder(pub(crate) String);

/// How a call is asked for and refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Manner {
    /// With a bearer token; by a problem document.
    Api,
    /// As OAuth has it of its clients.
    OAuth,
}

/// What a call does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// It stores nothing. It need not wait for the audit log.
    Reads,
    /// It issues what is stored: it is carried out to its end whether or not the caller waits, and recorded; its answer does
    /// not wait for the record.
    Issues,
    /// It changes something: it is carried out to its end whether or not the caller waits, and acknowledged once its
    /// record is durable. Where the store could not be used for it, its answer does not wait for the same store once more.
    Changes,
}

/// One call, and what stands in front of it. Cheap to clone: each request does.
#[derive(Clone)]
pub(crate) struct Call(Arc<Terms>);

#[derive(Clone)]
struct Terms {
    guard: Guard,
    action: &'static str,
    need: Need,
    effect: Effect,
    manner: Manner,
}

impl Guard {
    pub(crate) fn new(access: Access, audit: Audit, reach: Reach) -> Self {
        Self {
            access,
            audit,
            reach,
            limits: None,
            changes: Arc::default(),
        }
    }

    /// The same with other credentials. Changes that are under way are carried out by either.
    pub(crate) fn with(&self, access: Access) -> Self {
        Self {
            access,
            ..self.clone()
        }
    }

    /// The same in front of another listener.
    pub(crate) fn reaching(&self, reach: Reach) -> Self {
        Self {
            reach,
            ..self.clone()
        }
    }

    /// The same with limits on the calls: that of an address stands in front of everything else, that of a credential behind
    /// its check.
    pub(crate) fn limited(&self, limits: TokenApi) -> Self {
        Self {
            limits: Some(limits),
            ..self.clone()
        }
    }

    pub(crate) fn reach(&self) -> Reach {
        self.reach
    }

    /// Which credentials it knows.
    pub(crate) fn access(&self) -> &Access {
        &self.access
    }

    /// A call that needs `need`; the audit log knows it as `action`.
    pub(crate) fn call(&self, action: &'static str, need: Need, effect: Effect) -> Call {
        Call(Arc::new(Terms {
            guard: self.clone(),
            action,
            need,
            effect,
            manner: Manner::Api,
        }))
    }

    /// Ends when all that is carried out to its end has ended and its record is written.
    pub(crate) async fn finish(&self) {
        let mut changes = std::mem::take(&mut *self.changes.lock().unwrap_or_else(PoisonError::into_inner));
        while changes.join_next().await.is_some() {}
        if let Err(Unavailable) = self.audit.flush().await {
            tracing::warn!("the last records of the audit log are not known to be stored");
        }
    }

    async fn run(&self, effect: Effect, call: impl Future<Output = Response> + Send + 'static) -> Response {
        match effect {
            Effect::Reads => call.await,
            Effect::Issues | Effect::Changes => self.carry_out(call).await,
        }
    }

    /// Runs `change` to its end, even where this future is dropped because its caller went away.
    async fn carry_out(&self, change: impl Future<Output = Response> + Send + 'static) -> Response {
        let (done, answer) = oneshot::channel();
        {
            let mut changes = self.changes.lock().unwrap_or_else(PoisonError::into_inner);
            while changes.try_join_next().is_some() {}
            changes.spawn(async move {
                // Nobody may be there any more to be answered.
                let _ = done.send(change.await);
            });
        }
        answer.await.unwrap_or_else(|_| internal())
    }
}

impl Call {
    /// The same for clients of OAuth, who have their own way to authenticate and their own words for refusals.
    pub(crate) fn of_oauth(self) -> Self {
        Self(Arc::new(Terms {
            manner: Manner::OAuth,
            ..Terms::clone(&self.0)
        }))
    }
}

impl Terms {
    fn judge(&self, request: &Request, caller: IpAddr) -> Result<Arc<Credential>, Refusal> {
        let headers = request.headers();
        origin::check(headers, request.uri().authority(), self.guard.reach)?;
        match self.manner {
            Manner::Api => self.guard.access.check(headers, caller, self.need),
            Manner::OAuth => self.guard.access.check_client(headers, caller, self.need),
        }
    }

    fn refuse(&self, refusal: Refusal, request: &Request) -> Response {
        match self.manner {
            Manner::Api => refusal.into_response(),
            Manner::OAuth => refusal.into_oauth(client::basic(request.headers()).is_some()),
        }
    }

    /// Takes one of the calls that `caller` may make.
    #[expect(clippy::result_large_err, reason = "an answer is made once, and sent")]
    fn admit_address(&self, caller: IpAddr) -> Result<Option<Standing>, Response> {
        let limits = self.guard.limits.as_ref();
        self.admit(limits.map(|limits| limits.by_address(Caller(caller))))
    }

    /// Takes one of the calls that `credential` may make.
    #[expect(clippy::result_large_err, reason = "an answer is made once, and sent")]
    fn admit_credential(&self, credential: &Credential) -> Result<Option<Standing>, Response> {
        let limits = self.guard.limits.as_ref();
        self.admit(limits.map(|limits| limits.by_credential(&credential.name)))
    }

    #[expect(clippy::result_large_err, reason = "an answer is made once, and sent")]
    fn admit(&self, taken: Option<Result<Standing, Exceeding>>) -> Result<Option<Standing>, Response> {
        taken.transpose().map_err(|exceeding| match self.manner {
            Manner::Api => exceeding.into_response(),
            Manner::OAuth => exceeding.into_oauth(),
        })
    }

    /// What was done has no record.
    fn unrecorded(&self) -> Response {
        let detail = "The call was carried out, but its record is not known to be stored.";
        match self.manner {
            Manner::Api => unavailable(STORE_UNAVAILABLE, "Store unavailable", detail),
            Manner::OAuth => oauth_unavailable(STORE_UNAVAILABLE, detail),
        }
    }

    fn record(&self, who: &str, caller: IpAddr, target: String, outcome: &str) -> AuditRecord {
        AuditRecord {
            at: self.guard.access.wall(),
            who: who.to_owned(),
            address: caller.to_string(),
            action: self.action.to_owned(),
            target,
            outcome: outcome.to_owned(),
        }
    }
}

/// The middleware of a call that needs a credential.
pub(crate) async fn guarded(State(call): State<Call>, request: Request, next: Next) -> Response {
    guarded_by(call, request, |request| next.run(request)).await
}

/// The same in front of what `next` does.
pub(crate) async fn guarded_by<F>(
    Call(call): Call,
    request: Request,
    next: impl FnOnce(Request) -> F + Send + 'static,
) -> Response
where
    F: Future<Output = Response> + Send + 'static,
{
    let Caller(caller) = Caller::of(request.extensions());
    match call.admit_address(caller) {
        Ok(standing) => told(standing, judged(call, caller, request, next).await),
        Err(refused) => refused,
    }
}

async fn judged<F>(
    call: Arc<Terms>,
    caller: IpAddr,
    mut request: Request,
    next: impl FnOnce(Request) -> F + Send + 'static,
) -> Response
where
    F: Future<Output = Response> + Send + 'static,
{
    let target = target(&request);
    let credential = match call.judge(&request, caller) {
        Ok(credential) => credential,
        Err(refusal) => {
            // One that is limited was told so for those before it, which are in the log.
            if !matches!(refusal, Refusal::TooMany { .. }) {
                let record = call.record(refusal.who(), caller, target, refusal.code());
                call.guard.audit.note_denial(record);
            }
            return call.refuse(refusal, &request);
        }
    };
    // What is refused here is not in the audit log, which has those before it.
    let standing = match call.admit_credential(&credential) {
        Ok(standing) => standing,
        Err(refused) => return refused,
    };
    request.extensions_mut().insert(Who(Arc::clone(&credential)));
    let terms = Arc::clone(&call);
    let run = async move {
        let response = next(request).await;
        let about = response.extensions().get::<About>();
        let target = about.map_or(target, |about| about.0.clone());
        let record = call.record(&credential.name, caller, target, outcome(&response));
        match call.effect {
            Effect::Reads | Effect::Issues => {
                call.guard.audit.note(record);
                response
            }
            Effect::Changes if record.outcome == STORE_UNAVAILABLE => {
                call.guard.audit.note(record);
                response
            }
            Effect::Changes => match call.guard.audit.keep(record).await {
                Ok(()) => response,
                Err(Unavailable) => call.unrecorded(),
            },
        }
    };
    told(standing, terms.guard.run(terms.effect, run).await)
}

/// The middleware of a call that its holder's token opens: it is in the audit log like any other.
pub(crate) async fn recorded(State(Call(call)): State<Call>, request: Request, next: Next) -> Response {
    let Caller(caller) = Caller::of(request.extensions());
    let standing = match call.admit_address(caller) {
        Ok(standing) => standing,
        Err(refused) => return refused,
    };
    let target = target(&request);
    let terms = Arc::clone(&call);
    let run = async move {
        let response = next.run(request).await;
        let holder = response.extensions().get::<Holder>();
        let who = holder.map_or("", |holder| holder.0.as_str());
        let record = call.record(who, caller, target, outcome(&response));
        // Anybody can fail, and some can as often as they like.
        match response.status().is_success() {
            true => call.guard.audit.note(record),
            false => call.guard.audit.note_denial(record),
        }
        response
    };
    told(standing, terms.guard.run(terms.effect, run).await)
}

/// Adds to an answer what is left of a limit, where there is one.
fn told(standing: Option<Standing>, response: Response) -> Response {
    match standing {
        Some(standing) => standing.tell(response),
        None => response,
    }
}

/// What a call is about.
fn target(request: &Request) -> String {
    let path = request.uri().path();
    let end = path.char_indices().nth(MAX_TARGET);
    let end = end.map_or(path.len(), |(end, _)| end);
    path.get(..end).unwrap_or_default().to_owned()
}

/// `ok`, or the stable code of what went wrong.
fn outcome(response: &Response) -> &'static str {
    match response.extensions().get::<Reason>() {
        Some(Reason(code)) => code,
        None if response.status().is_success() => "ok",
        None => "failed",
    }
}

/// The middleware of what needs no credential, but is not for pages of other sites.
pub(crate) async fn same_site(State(guard): State<Guard>, request: Request, next: Next) -> Response {
    match origin::check(request.headers(), request.uri().authority(), guard.reach) {
        Ok(()) => next.run(request).await,
        Err(refusal) => refusal.into_response(),
    }
}

#[cfg(test)]
mod tests;
