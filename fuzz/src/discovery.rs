//! Discovery documents: whose keys stand where.
//!
//! The first line of an input is the configured issuer, where it can be one; the rest is the document.

use serde_json::value::RawValue;
use tokenward::discovery::Discovery;
use url::Url;

use crate::json::Members;

pub fn check(data: &[u8]) {
    let (first, body) = match data.iter().position(|byte| *byte == b'\n') {
        Some(end) => (&data[..end], &data[end + 1..]),
        None => (&b"https://issuer.example"[..], data),
    };
    let Ok(issuer) = std::str::from_utf8(first) else {
        return;
    };
    let Ok(discovery) = Discovery::of(issuer) else {
        return;
    };
    assert_eq!(discovery.issuer(), issuer, "an issuer is never normalized");
    let own = Url::parse(issuer).expect("an issuer that is asked is a URL");
    assert!(own.host().is_some() && own.query().is_none() && own.fragment().is_none());

    let found = discovery.jwks_uri(body).map_err(|error| error.code());
    assert_eq!(
        found.as_ref().ok(),
        judged(issuer, &own, body).as_ref(),
        "{found:?}"
    );
    let strictly = discovery.strict_origin(true).jwks_uri(body);
    let expected = found.ok().filter(|url| url.origin() == own.origin());
    assert_eq!(strictly.ok(), expected);
}

/// Where the document says that the keys of `issuer` are, by RFC 8414 sections 2 and 3.3.
fn judged(issuer: &str, own: &Url, body: &[u8]) -> Option<Url> {
    // What other members hold is nobody's business: numbers beyond a double, or halves of a surrogate pair.
    let document: Members<&RawValue> = serde_json::from_slice(body).ok()?;
    let once = |name: &str| {
        let mut values = document.0.iter().filter(|(member, _)| member == name);
        let (_, value) = values.next()?;
        let text = serde_json::from_str::<String>(value.get()).ok()?;
        values.next().is_none().then_some(text)
    };
    if once("issuer")? != issuer {
        return None;
    }
    let url = Url::parse(&once("jwks_uri")?).ok()?;
    (own.scheme() != "https" || url.scheme() == "https").then_some(url)
}
