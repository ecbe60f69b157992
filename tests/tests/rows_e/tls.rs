//! Pass-through: bytes that are none of our business.

use std::process::{Command, Stdio};

use standfast_tests::prelude::*;
use standfast_tests::program::{Dir, installed};

/// A key and a certificate for `localhost` and 127.0.0.1 in `dir`: `key.pem`, `cert.pem`.
fn make_certificate(dir: &Dir) -> anyhow::Result<()> {
    let file = |name: &str| dir.path().join(name).display().to_string();
    let (key, cert) = (file("key.pem"), file("cert.pem"));
    let words = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=the-broker \
         -addext subjectAltName=DNS:localhost,IP:127.0.0.1 -keyout";
    let output = Command::new(installed("openssl")?)
        .args(words.split_whitespace())
        .args([&key, "-out", &cert])
        .output()?;
    anyhow::ensure!(output.status.success(), "{output:?}");
    Ok(())
}

/// The lines of the first certificate in a text, without spaces around them.
fn certificate_in(text: &str) -> Vec<String> {
    let lines = text.lines().map(str::trim);
    let from = lines.skip_while(|line| !line.starts_with("-----BEGIN CERTIFICATE"));
    let mut found = Vec::new();
    for line in from {
        found.push(line.to_owned());
        if line.starts_with("-----END CERTIFICATE") {
            break;
        }
    }
    found
}

/// E11: TLS to a TLS broker through tcp mode; the certificate seen is the broker's
#[test]
fn e11_tls_passes_through_and_the_certificate_is_the_brokers() {
    let dir = Dir::new("tls");
    require!(make_certificate(&dir));
    let file = |name: &str| dir.path().join(name).display().to_string();
    let mosquitto = Mosquitto::start(&format!(
        "certfile {}\nkeyfile {}",
        file("cert.pem"),
        file("key.pem")
    ));
    let mosquitto = mosquitto.expect("mosquitto runs");
    let standfast = Standfast::start(&one_pool(&format!(
        "mode = \"tcp\"\ncheck = {{ interval = \"100ms\" }}\n{}",
        backends_at([mosquitto.addr()])
    )));
    standfast.wait_up(&["b1"]);
    let to = standfast.addr("mqtt");

    let output = Command::new(installed("openssl").expect("it made the certificate"))
        .args([
            "s_client",
            "-connect",
            &to.to_string(),
            "-CAfile",
            &file("cert.pem"),
        ])
        .args(["-verify_return_error", "-verify_ip", "127.0.0.1"])
        .stdin(Stdio::null())
        .output()
        .expect("openssl runs");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("Verify return code: 0 (ok)"), "{output:?}");
    let broker = std::fs::read_to_string(file("cert.pem")).expect("openssl wrote it");
    assert_eq!(certificate_in(&said), certificate_in(&broker));

    // And MQTT inside it, with real clients that verify whom they talk to.
    let ca = file("cert.pem");
    let more = ["--cafile", &ca];
    let subscriber = Subscriber::start(to, "sub", "t", &more).expect("subscribed");
    let message = Publish {
        to,
        id: "pub",
        topic: "t",
        payload: "through",
        more: &more,
    };
    message.run().expect("mosquitto_pub is content");
    subscriber.expect("through");
}

/// E11: … through tcp mode … — whatever the first bytes are, and whoever speaks first.
#[test]
fn e11_tcp_mode_asks_for_no_connect() {
    use std::io::{Read, Write};
    let port = standfast_tests::ports::free();
    let backend = std::net::TcpListener::bind(("127.0.0.1", port)).expect("ours");
    let standfast = Standfast::start(&listener_and_pool(
        "connect_deadline = \"300ms\"",
        &format!(
            "mode = \"tcp\"\ncheck = false\n{}",
            backends_at([([127, 0, 0, 1], port).into()])
        ),
    ));
    let mut client = Client::open(standfast.addr("mqtt")).expect("it listens");
    let (mut server, _) = backend.accept().expect("it connects");
    server
        .write_all(b"220 a server that speaks first\r\n")
        .expect("open");
    let greeting = client.bytes(32, s(5)).expect("the greeting");
    assert_eq!(greeting, b"220 a server that speaks first\r\n");
    // Longer silent than any deadline for a CONNECT.
    holds(ms(800), "no CONNECT is waited for", || client.is_open());
    client.send(b"EHLO \xff\x00").expect("open");
    let mut heard = [0; 7];
    server.read_exact(&mut heard).expect("the bytes");
    assert_eq!(&heard, b"EHLO \xff\x00");
    let _ = standfast;
}
