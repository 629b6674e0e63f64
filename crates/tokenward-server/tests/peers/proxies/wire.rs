//! HTTP/1.1 as it is on the wire. Bytes of a head are read as Latin-1, so that none is lost and none is refused.

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::TcpStream;

pub(super) type Headers = Vec<(String, String)>;

pub(super) type Reader = BufReader<TcpStream>;

/// The first line of a message and its headers; none where there is no whole head.
pub(super) fn head(reader: &mut Reader) -> Option<(String, Headers)> {
    let first = line(reader)?;
    let mut headers = Vec::new();
    loop {
        let line = line(reader)?;
        if line.is_empty() {
            return Some((first, headers));
        }
        let (name, value) = line.split_once(':')?;
        headers.push((name.to_owned(), value.trim().to_owned()));
    }
}

/// The values of a header, one for each line.
pub(super) fn values<'a>(headers: &'a Headers, name: &'a str) -> impl Iterator<Item = &'a str> {
    headers
        .iter()
        .filter(move |(have, _)| have.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.as_str())
}

/// The body that `headers` announce; none where they announce no length, or it is cut.
pub(super) fn body(reader: &mut Reader, headers: &Headers) -> Option<Vec<u8>> {
    if values(headers, "transfer-encoding").next().is_none() {
        let mut body = vec![0; values(headers, "content-length").next()?.parse().ok()?];
        reader.read_exact(&mut body).ok()?;
        return Some(body);
    }
    let mut body = Vec::new();
    loop {
        let mut chunk = vec![0; usize::from_str_radix(&line(reader)?, 16).ok()?];
        reader.read_exact(&mut chunk).ok()?;
        line(reader)?;
        if chunk.is_empty() {
            return Some(body);
        }
        body.extend(chunk);
    }
}

/// The bytes of a text that was read, or is to be sent, as Latin-1.
pub(super) fn bytes(text: &str) -> Vec<u8> {
    text.chars().map(|c| u8::try_from(c).expect("Latin-1")).collect()
}

/// A line without its end; none where there is no whole one.
fn line(reader: &mut Reader) -> Option<String> {
    let mut bytes = Vec::new();
    reader.read_until(b'\n', &mut bytes).ok()?;
    let line = bytes.strip_suffix(b"\r\n")?;
    Some(line.iter().copied().map(char::from).collect())
}
