//! Each word of the file: what is right, and why what is wrong is wrong.

use super::*;

/// Asserts which texts a parser takes as what, and which it refuses with which words.
#[track_caller]
fn table<T: PartialEq + std::fmt::Debug>(
    parse: fn(&str) -> Result<T, String>,
    right: impl IntoIterator<Item = (&'static str, T)>,
    wrong: &[(&str, &str)],
) {
    for (text, value) in right {
        assert_eq!(parse(text), Ok(value), "{text:?}");
    }
    for (text, why) in wrong {
        assert_eq!(parse(text), Err((*why).to_owned()), "{text:?}");
    }
}

#[test]
fn durations_have_units() {
    let ms = Duration::from_millis;
    let right = [
        ("250ms", ms(250)),
        ("10s", ms(10_000)),
        ("30m", ms(1_800_000)),
        ("2h", ms(7_200_000)),
        ("1d", ms(86_400_000)),
        ("1h30m", ms(5_400_000)),
        ("1m 30s", ms(90_000)),
        ("0s", ms(0)),
    ];
    let wrong = [
        ("", "it is empty"),
        ("10", "it has no unit"),
        ("s", "\"s\" is not a whole number and a unit"),
        ("-1s", "\"-1s\" is not a whole number and a unit"),
        ("1.5s", "\".\" is no unit (ms, s, m, h, d)"),
        ("10us", "\"us\" is no unit (ms, s, m, h, d)"),
        ("3651d", "it is more than ten years"),
        ("99999999999999999999s", "it is more than ten years"),
        ("18446744073709551615d", "it is more than ten years"),
    ];
    table(duration, right, &wrong);
}

#[test]
fn durations_are_shown_in_their_largest_whole_unit() {
    for (millis, shown) in [
        (0, "0s"),
        (1500, "1500ms"),
        (90_000, "90s"),
        (120_000, "2m"),
        (86_400_000, "1d"),
    ] {
        assert_eq!(show_duration(Duration::from_millis(millis)), shown);
    }
}

#[test]
fn counts_are_decimal_and_sizes_binary() {
    table(
        count,
        [
            ("102400", 102_400),
            ("100k", 100_000),
            ("1m", 1_000_000),
            ("1_000", 1000),
            ("2G", 2_000_000_000),
        ],
        &[
            ("k", "it does not begin with a number"),
            ("1t", "\"t\" is no suffix (k, m, g)"),
            ("1.5k", "\".5k\" is no suffix (k, m, g)"),
            ("99999999999999999999", "it is too large"),
        ],
    );
    table(
        size,
        [
            ("131072", 131_072),
            ("128k", 131_072),
            ("64m", 64 << 20),
            ("64MiB", 64 << 20),
            ("1 g", 1 << 30),
        ],
        &[
            ("64mb", "\"mb\" is no suffix (k, m, g)"),
            ("20000000000g", "it is too large"),
        ],
    );
}

#[test]
fn rates_are_more_than_zero() {
    let right = [
        ("500/s", 500.0),
        ("0.5/s", 0.5),
        ("30/m", 0.5),
        ("10k/s", 10_000.0),
        ("3600/h", 1.0),
    ];
    let wrong = [
        ("500", "it names no time, as in \"500/s\""),
        ("5/day", "\"day\" is no unit of time (s, m, h)"),
        (
            "0/s",
            "a rate is more than 0 and at most 1000000000 a second",
        ),
        ("nan/s", "it does not begin with a number"),
        ("inf/s", "it does not begin with a number"),
        ("-1/s", "it does not begin with a number"),
        ("/s", "it does not begin with a number"),
    ];
    table(
        rate,
        right.map(|(text, per_second)| (text, Rate { per_second })),
        &wrong,
    );
}

#[test]
fn binds_are_addresses() {
    let at = |ip: &str, port| Bind {
        ip: Some(ip.parse().expect("an address")),
        port,
    };
    let right = [
        (
            ":1883",
            Bind {
                ip: None,
                port: 1883,
            },
        ),
        ("10.0.0.1:1883", at("10.0.0.1", 1883)),
        ("[::1]:0", at("::1", 0)),
    ];
    let wrong = [
        ("1883", "it has no port"),
        (":", "\"\" is not a port (0 to 65535)"),
        (":+1", "\"+1\" is not a port (0 to 65535)"),
        ("*:1883", "all addresses are written \":1883\""),
        ("::1", "an IPv6 address stands in brackets before its port"),
        (
            "localhost:1",
            "\"localhost\" is not an IP address, and a listener binds no names",
        ),
    ];
    table(bind, right, &wrong);
}

#[test]
fn backends_have_hosts_and_ports() {
    let right = [
        (
            "mq_1.example-a.com:1883",
            ("mq_1.example-a.com".to_owned(), 1883),
        ),
        ("[fd00::1]:1", ("fd00::1".to_owned(), 1)),
        ("10.0.0.1:65535", ("10.0.0.1".to_owned(), 65_535)),
    ];
    let wrong = [
        ("10.0.0.1", "it has no port"),
        (":1883", "it names no host"),
        ("a:0", "port 0 is no port of a broker"),
        ("a:65536", "\"65536\" is not a port (0 to 65535)"),
        (
            "fd00::1:1883",
            "an IPv6 address stands in brackets before its port",
        ),
        ("[fd00::1]", "it has no port"),
        ("[x]:1", "\"x\" is not an IPv6 address"),
        ("a b:1", "\"a b\" is neither a host name nor an address"),
        ("10.0.0.256:1", "\"10.0.0.256\" is not an IP address"),
        (
            "mqtt://a:1",
            "a host and port stand alone, without a scheme",
        ),
    ];
    table(addr, right, &wrong);
}

#[test]
fn networks_have_no_bits_beyond_their_prefix() {
    let net = |ip: &str, prefix| Cidr {
        ip: ip.parse().expect("an address"),
        prefix,
    };
    let right = [
        ("10.0.0.0/8", net("10.0.0.0", 8)),
        ("0.0.0.0/0", net("0.0.0.0", 0)),
        ("::/0", net("::", 0)),
        ("fd00::/8", net("fd00::", 8)),
        ("192.0.2.7", net("192.0.2.7", 32)),
        ("::1", net("::1", 128)),
    ];
    let wrong = [
        (
            "10.0.0.1/8",
            "it has bits beyond its prefix; the network is \"10.0.0.0/8\"",
        ),
        (
            "fd00::1/8",
            "it has bits beyond its prefix; the network is \"fd00::/8\"",
        ),
        ("10.0.0.0/33", "\"33\" is not a prefix length (0 to 32)"),
        ("10.0.0.0/+8", "\"+8\" is not a prefix length (0 to 32)"),
        ("ten/8", "\"ten\" is not an IP address"),
    ];
    table(cidr, right, &wrong);
}

#[test]
fn modes_are_octal() {
    let wrong = [
        ("0880", "it is not octal"),
        ("", "it is not octal"),
        ("1777", "it is more than 0777"),
    ];
    table(
        mode,
        [("0660", 0o660), ("600", 0o600), ("000777", 0o777)],
        &wrong,
    );
}

#[test]
fn targets_are_words_urls_or_absolute_paths() {
    let udp = |host: &str, port| Target::SyslogUdp {
        host: host.into(),
        port,
    };
    let right = [
        ("stderr", Target::Stderr),
        ("journald", Target::Journald),
        ("/var/log/x", Target::File("/var/log/x".into())),
        ("syslog", Target::Syslog),
        ("syslog://127.0.0.1", udp("127.0.0.1", 514)),
        (
            "syslog://log.example.com:5140",
            udp("log.example.com", 5140),
        ),
        ("syslog://[::1]", udp("::1", 514)),
        ("syslog://[::1]:99", udp("::1", 99)),
    ];
    for (text, target) in &right {
        let again = super::target(&show_target(target));
        assert_eq!(again.as_ref(), Ok(target), "{text}");
    }
    let wrong = [
        ("journal", "did you mean \"journald\"?"),
        ("access.log", "the path of a file begins with a slash"),
        ("syslog://a:x", "\"x\" is not a port (0 to 65535)"),
        ("syslog://", "\"\" is neither a host name nor an address"),
    ];
    table(target, right, &wrong);
}

#[test]
fn urls_are_taken_apart() {
    let url_of = |host: Option<&str>, port, path: &str| Url {
        host: host.map(Into::into),
        port,
        path: path.into(),
    };
    let right = [
        ("http://:8889/a/b?c=d", url_of(None, Some(8889), "/a/b?c=d")),
        ("http://:8889", url_of(None, Some(8889), "/")),
        ("http:///x", url_of(None, None, "/x")),
        ("http://h.example/x", url_of(Some("h.example"), None, "/x")),
        ("http://[::1]:80/", url_of(Some("::1"), Some(80), "/")),
    ];
    let wrong = [
        ("https://:1/", "checks over TLS do not exist yet"),
        (":8889/x", "it does not begin with http://"),
        (
            "http://u:p@h/",
            "it holds a user name; write check.headers with Authorization",
        ),
        ("http://:1/a b", "\"/a b\" is no path of a request"),
        (
            "http://:1/a\r\nX: y",
            "\"/a\\r\\nX: y\" is no path of a request",
        ),
        ("http://:1/a#b", "\"/a#b\" is no path of a request"),
        ("http://:0/", "port 0 is no port of a server"),
    ];
    table(url, right, &wrong);
}

#[test]
fn bytes_are_pairs_of_digits() {
    let right = [
        ("c000", vec![0xc0, 0]),
        ("C0 00\n0a", vec![0xc0, 0, 10]),
        ("", vec![]),
    ];
    let wrong = [
        ("abc", "it has an odd number of digits"),
        ("0x00", "'x' is no hexadecimal digit"),
    ];
    table(hex, right, &wrong);
    assert_eq!(hex(&"00".repeat(4096)).map(|b| b.len()), Ok(4096));
    assert_eq!(
        hex(&"00".repeat(4097)),
        Err("it is longer than 4096 bytes".into())
    );
    assert_eq!(show_hex(&[0, 0xff, 0x0a]), "00ff0a");
}

#[test]
fn facilities_have_the_numbers_of_their_standard() {
    for (name, number) in [("kern", 0), ("daemon", 3), ("local0", 16), ("local7", 23)] {
        assert_eq!(facility(name), Ok(Facility(number)));
        assert_eq!(show_facility(Facility(number)), name);
    }
    assert_eq!(facility("zzz"), Err("there is no such facility".into()));
}
