//! One HTTP request; 2xx and 3xx are healthy, nothing else is, and no redirect is followed.

use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use super::{Answer, Ask, Fault, Shown, body, more};
use crate::config::CheckKind;

/// The longest head (all 1xx ones before it included) that is read, in bytes.
const MAX_HEAD: usize = 32 * 1024;

/// The most header lines of an answer that are looked at.
const MAX_HEADERS: usize = 128;

/// The most of a body that is read, in bytes. It is for display only.
const MAX_BODY: usize = 64 * 1024;

/// How long the body may take once the status is known.
const BODY_TIME: Duration = Duration::from_millis(100);

pub(super) async fn ask(
    stream: &mut TcpStream,
    ask: &Ask,
    greeting: Vec<u8>,
    port: u16,
    deadline: Instant,
) -> Answer {
    let (request, method) = request(&ask.check.kind, &ask.host, port);
    // One write: receivers of PROXY headers drop one that comes in pieces.
    let mut out = greeting;
    out.extend_from_slice(request.as_bytes());
    let sent = stream.write_all(&out).await;
    let mut buf = Vec::new();
    let head = match head(stream, &mut buf).await {
        Ok(head) => head,
        Err(fault) => return Err(sent.map_or_else(|error| Fault::talking(&error), |()| fault)),
    };
    let mut shown = Shown::now(head.status.to_string());
    if method != "HEAD" && head.has_body() {
        buf.drain(..head.length);
        let until = deadline.min(Instant::now() + BODY_TIME);
        // A body that is late, broken or endless changes nothing: the code has decided.
        let _ = timeout_at(until, head.body(stream, &mut buf)).await;
        (shown.status, shown.components) = body::read(&head.content(&buf));
    }
    if (200..400).contains(&head.status) {
        Ok(shown)
    } else {
        Err(Fault {
            shown,
            ..Fault::not_ready("")
        })
    }
}

/// The request, and its method.
fn request<'a>(kind: &'a CheckKind, backend: &str, port: u16) -> (String, &'a str) {
    let CheckKind::Http {
        address,
        path,
        method,
        host,
        headers,
    } = kind
    else {
        return (String::new(), "");
    };
    let named = |name: &str| {
        headers
            .iter()
            .any(|(key, _)| key.eq_ignore_ascii_case(name))
    };
    let mut text = format!("{method} {path} HTTP/1.1\r\n");
    if !named("host") {
        let host = host.clone().unwrap_or_else(|| {
            let host = address.as_deref().unwrap_or(backend);
            if host.contains(':') && !host.starts_with('[') {
                format!("[{host}]:{port}")
            } else {
                format!("{host}:{port}")
            }
        });
        text += &format!("Host: {host}\r\n");
    }
    for (name, value) in [("User-Agent", "standfast"), ("Accept", "*/*")] {
        if !named(name) {
            text += &format!("{name}: {value}\r\n");
        }
    }
    for (name, value) in headers {
        if !name.eq_ignore_ascii_case("connection") {
            text += &format!("{name}: {value}\r\n");
        }
    }
    text += "Connection: close\r\n\r\n";
    (text, method)
}

/// What the head of an answer says.
#[derive(Debug, Default)]
struct Head {
    status: u16,
    /// Bytes of the head, from the start of what was read.
    length: usize,
    content_length: Option<usize>,
    chunked: bool,
}

impl Head {
    fn has_body(&self) -> bool {
        !matches!(self.status, 204 | 304) && self.content_length != Some(0)
    }

    /// Reads the body as far as it is shown.
    async fn body(&self, stream: &mut TcpStream, buf: &mut Vec<u8>) -> Result<(), Fault> {
        let enough = self.content_length.unwrap_or(MAX_BODY).min(MAX_BODY);
        while buf.len() < enough && !(self.chunked && buf.ends_with(b"0\r\n\r\n")) {
            if !more(stream, buf).await? {
                break;
            }
        }
        Ok(())
    }

    /// The bytes of the content, as far as they were read.
    fn content(&self, body: &[u8]) -> Vec<u8> {
        if self.chunked {
            return dechunk(body);
        }
        let end = self.content_length.unwrap_or(body.len()).min(body.len());
        body[..end].to_vec()
    }
}

/// Reads until the head of the final answer is whole.
async fn head(stream: &mut TcpStream, buf: &mut Vec<u8>) -> Result<Head, Fault> {
    let mut skipped = 0;
    loop {
        if let Some(mut head) = parse(&buf[skipped..])? {
            skipped += head.length;
            // 101 ends HTTP; the other 1xx announce the answer proper.
            if (100..200).contains(&head.status) && head.status != 101 {
                continue;
            }
            head.length = skipped;
            return Ok(head);
        }
        if buf.len() >= MAX_HEAD {
            return Err(Fault::not_ready("head of the answer is too long"));
        }
        if !more(stream, buf).await? {
            return Err(Fault::not_ready("closed without an answer"));
        }
    }
}

fn parse(buf: &[u8]) -> Result<Option<Head>, Fault> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut response = httparse::Response::new(&mut headers);
    let length = match response.parse(buf) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        // Whatever the header lines are, the code decides.
        Err(httparse::Error::TooManyHeaders) if response.code.is_some() => {
            return Ok(Some(Head {
                status: response.code.unwrap_or_default(),
                length: buf.len(),
                content_length: Some(0),
                chunked: false,
            }));
        }
        Err(error) => return Err(Fault::not_ready(format!("no HTTP answer: {error}"))),
    };
    let value = |name: &str| {
        response
            .headers
            .iter()
            .find(|header| header.name.eq_ignore_ascii_case(name))
            .and_then(|header| std::str::from_utf8(header.value).ok())
    };
    Ok(Some(Head {
        status: response.code.unwrap_or_default(),
        length,
        content_length: value("content-length").and_then(|text| text.trim().parse().ok()),
        chunked: value("transfer-encoding")
            .is_some_and(|coding| coding.to_ascii_lowercase().contains("chunked")),
    }))
}

/// The content of a chunked body, as far as it is whole.
fn dechunk(mut body: &[u8]) -> Vec<u8> {
    let mut content = Vec::new();
    while let Ok(httparse::Status::Complete((head, size))) = httparse::parse_chunk_size(body) {
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        let rest = &body[head..];
        content.extend_from_slice(&rest[..size.min(rest.len())]);
        // Two more for the line end behind the chunk.
        match size.checked_add(2).and_then(|skip| rest.get(skip..)) {
            Some(next) if size > 0 => body = next,
            _ => break,
        }
    }
    content
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(host: Option<&str>, headers: &[(&str, &str)]) -> CheckKind {
        CheckKind::Http {
            address: None,
            path: "/ready?x=1".into(),
            method: "GET".into(),
            host: host.map(Into::into),
            headers: headers
                .iter()
                .map(|(name, value)| ((*name).into(), (*value).into()))
                .collect(),
        }
    }

    #[test]
    fn the_request_names_a_host_and_asks_to_close() {
        let (text, _) = request(&kind(None, &[]), "fd00::1", 8889);
        assert_eq!(
            text,
            "GET /ready?x=1 HTTP/1.1\r\nHost: [fd00::1]:8889\r\nUser-Agent: standfast\r\nAccept: */*\r\n\
             Connection: close\r\n\r\n"
        );
        let (text, _) = request(&kind(Some("health"), &[("X-A", "1")]), "mq1", 80);
        assert!(
            text.contains("\r\nHost: health\r\n") && text.contains("\r\nX-A: 1\r\n"),
            "{text}"
        );
    }

    #[test]
    fn a_configured_header_takes_the_place_of_ours() {
        let headers = [
            ("HOST", "a"),
            ("user-agent", "b"),
            ("Connection", "keep-alive"),
        ];
        let (text, _) = request(&kind(Some("health"), &headers), "mq1", 80);
        let lower = text.to_ascii_lowercase();
        for name in ["\r\nhost:", "\r\nuser-agent:", "\r\nconnection:"] {
            assert_eq!(lower.matches(name).count(), 1, "{text}");
        }
        assert!(text.contains("Connection: close"), "{text}");
    }

    #[test]
    fn chunks_are_joined_and_lies_about_their_size_are_harmless() {
        assert_eq!(dechunk(b"3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n"), b"abcde");
        assert_eq!(dechunk(b"5\r\nabc"), b"abc");
        assert_eq!(dechunk(b"ffffffffffffffff\r\nabc"), b"abc");
        assert_eq!(dechunk(b"zz\r\nabc"), b"");
        assert_eq!(dechunk(b""), b"");
    }

    #[tokio::test]
    async fn of_an_endless_body_no_more_is_kept_than_can_be_shown() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .expect("loopback has a free port");
        let at = listener
            .local_addr()
            .expect("a bound socket has an address");
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                while stream.write_all(&[b'0'; 65_536]).await.is_ok() {}
            }
        });
        for (content_length, chunked) in [(Some(usize::MAX), false), (None, false), (None, true)] {
            let head = Head {
                status: 200,
                content_length,
                chunked,
                ..Head::default()
            };
            let mut buf = Vec::new();
            let mut stream = TcpStream::connect(at).await.expect("it listens");
            let until = Instant::now() + Duration::from_secs(5);
            let reading = timeout_at(until, head.body(&mut stream, &mut buf)).await;
            assert!(matches!(reading, Ok(Ok(()))), "it goes on and on");
            assert!(buf.len() >= MAX_BODY && buf.len() < MAX_BODY + 8192);
        }
    }
}
