//! What an error of the server, or of the way to it, means for the caller and for the connection.

use redis::{ErrorKind, RedisError, ServerErrorKind};

use crate::{StoreError, StoreErrorKind};

/// How long what a server says may be in a message of ours.
const LONGEST: usize = 200;

/// What becomes of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It goes on: the server answered, and the answer is no.
    Kept,
    /// It is of no more use: another server may be the right one by now.
    Left,
    /// It is broken, and that counts.
    Broken,
}

/// Judges an error that `place` answered with.
pub(super) fn judge(place: &str, error: &RedisError) -> (StoreError, Fate) {
    let code = code_of(error);
    let (kind, fate) = match code.as_deref() {
        Some(
            "MOVED" | "ASK" | "TRYAGAIN" | "CLUSTERDOWN" | "MASTERDOWN" | "READONLY" | "LOADING" | "NOAUTH"
            | "WRONGPASS" | "UNBLOCKED",
        ) => (StoreErrorKind::Unavailable, Fate::Left),
        Some("BUSY" | "NOREPLICAS") => (StoreErrorKind::Unavailable, Fate::Kept),
        Some("NEWER") => (StoreErrorKind::Newer, Fate::Kept),
        Some("CORRUPT") => (StoreErrorKind::Corrupt, Fate::Kept),
        Some(_) => (StoreErrorKind::Io, Fate::Kept),
        None => match error.kind() {
            ErrorKind::UnexpectedReturnType => (StoreErrorKind::Corrupt, Fate::Kept),
            ErrorKind::AuthenticationFailed => (StoreErrorKind::Unavailable, Fate::Left),
            _ => (StoreErrorKind::Unavailable, Fate::Broken),
        },
    };
    let message = format!("the store at {place}: {}", words(error, code.as_deref()));
    (StoreError::new(kind, message), fate)
}

/// Whether the server does not have the script that it was asked to run.
pub(super) fn is_unknown_script(error: &RedisError) -> bool {
    error.kind() == ErrorKind::Server(ServerErrorKind::NoScript)
}

/// The code of what the server answered; none where it did not answer.
fn code_of(error: &RedisError) -> Option<String> {
    match error.clone().into_server_errors() {
        Some(errors) => errors.first().map(|(_, error)| error.code().to_owned()),
        None => None,
    }
}

/// What happened, without anything that we sent: servers quote commands that they do not know.
fn words(error: &RedisError, code: Option<&str>) -> String {
    let Some(code) = code else {
        return match error.kind() {
            ErrorKind::AuthenticationFailed => "it refuses the user or the password".to_owned(),
            ErrorKind::Parse => "what answers there is no Redis".to_owned(),
            ErrorKind::UnexpectedReturnType => "an answer is not of the type that it should be".to_owned(),
            ErrorKind::Io => error.to_string(),
            // The only thing that it may refuse while a connection is made, beside who we are.
            ErrorKind::Server(_) => {
                format!(
                    "it refuses the database: {}",
                    shown(error.detail().unwrap_or_default())
                )
            }
            _ => error.category().to_owned(),
        };
    };
    let detail = error
        .clone()
        .into_server_errors()
        .and_then(|errors| {
            errors
                .first()
                .and_then(|(_, error)| error.details().map(str::to_owned))
        })
        .unwrap_or_default();
    format!("{code} {}", shown(&detail)).trim_end().to_owned()
}

/// What a server says, without what it may quote of ours.
fn shown(detail: &str) -> String {
    let detail = detail.split(", with args").next().unwrap_or_default();
    let signs = detail.chars().filter(|sign| !sign.is_control());
    signs.take(LONGEST).collect()
}

#[cfg(test)]
mod tests {
    use redis::parse_redis_value;

    use super::*;

    fn judged(answer: &str) -> (StoreErrorKind, Fate, String) {
        let error = parse_redis_value(answer.as_bytes())
            .unwrap()
            .extract_error()
            .unwrap_err();
        let (error, fate) = judge("a:1", &error);
        (error.kind(), fate, error.to_string())
    }

    #[test]
    fn each_answer_has_its_meaning() {
        for (answer, kind, fate) in [
            ("-MOVED 3 b:2\r\n", StoreErrorKind::Unavailable, Fate::Left),
            (
                "-READONLY You can't write\r\n",
                StoreErrorKind::Unavailable,
                Fate::Left,
            ),
            ("-LOADING wait\r\n", StoreErrorKind::Unavailable, Fate::Left),
            (
                "-NOAUTH Authentication required.\r\n",
                StoreErrorKind::Unavailable,
                Fate::Left,
            ),
            ("-BUSY a script\r\n", StoreErrorKind::Unavailable, Fate::Kept),
            ("-OOM command not allowed\r\n", StoreErrorKind::Io, Fate::Kept),
            ("-MISCONF cannot persist\r\n", StoreErrorKind::Io, Fate::Kept),
            ("-WRONGTYPE Operation\r\n", StoreErrorKind::Io, Fate::Kept),
            ("-NEWER the store\r\n", StoreErrorKind::Newer, Fate::Kept),
            ("-CORRUPT a family\r\n", StoreErrorKind::Corrupt, Fate::Kept),
            ("-ERR anything\r\n", StoreErrorKind::Io, Fate::Kept),
        ] {
            let (found, became, text) = judged(answer);
            assert_eq!((found, became), (kind, fate), "{answer}");
            assert_eq!(
                text,
                format!("the store at a:1: {}", &answer[1..answer.len() - 2])
            );
        }
    }

    #[test]
    fn what_we_sent_is_not_repeated() {
        let (_, _, text) = judged("-ERR unknown command 'AUTH', with args beginning with: 's3cret' \r\n");
        assert_eq!(text, "the store at a:1: ERR unknown command 'AUTH'");
        let (_, _, text) = judged(&format!("-ERR {}\r\n", "x".repeat(1000)));
        assert!(text.len() < 250, "{}", text.len());
    }

    #[test]
    fn a_connection_that_ends_is_broken() {
        let error = RedisError::from(std::io::Error::from(std::io::ErrorKind::ConnectionReset));
        let (error, fate) = judge("a:1", &error);
        assert_eq!((error.kind(), fate), (StoreErrorKind::Unavailable, Fate::Broken));
        assert!(error.to_string().contains("connection reset"), "{error}");
    }
}
