//! Bytes out, and the bytes that the answer must start with.

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::{Answer, Fault, Shown, more};

/// How many bytes of a wrong answer are shown.
const SHOWN: usize = 16;

pub(super) async fn ask(
    stream: &mut TcpStream,
    greeting: Vec<u8>,
    send: &[u8],
    expect: &[u8],
) -> Answer {
    // One write: receivers of PROXY headers drop one that comes in pieces.
    let mut out = greeting;
    out.extend_from_slice(send);
    let sent = stream.write_all(&out).await;
    let mut answer = Vec::new();
    loop {
        let seen = answer.len().min(expect.len());
        if answer[..seen] != expect[..seen] {
            return Err(Fault::not_ready(format!(
                "answer begins with {}, wanted {}",
                hex(&answer),
                hex(expect)
            )));
        }
        if seen == expect.len() {
            sent.map_err(|error| Fault::talking(&error))?;
            let shown = Shown::now(format!("answer {}", hex(expect)));
            let _ = stream.shutdown().await;
            return Ok(shown);
        }
        if !more(stream, &mut answer).await? {
            return Err(Fault::not_ready(format!(
                "closed after {} of {} bytes",
                answer.len(),
                expect.len()
            )));
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut text = String::new();
    for byte in bytes.iter().take(SHOWN) {
        let _ = write!(text, "{byte:02x}");
    }
    if bytes.len() > SHOWN {
        text.push('…');
    }
    text
}
