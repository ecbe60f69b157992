//! The packets of a health check that is a real client: CONNECT, PINGREQ, goodbye.

use super::{Level, put_binary, put_var_int};

/// The CONNECT of a health check.
///
/// The client id must be unique per node: two checkers with one id make a broker end each other's connections.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Probe<'a> {
    /// The version of MQTT to speak.
    pub level: Level,
    /// May be empty only with a clean start in 3.1.1 and 5.
    pub client_id: &'a str,
    /// Clean session (3.x), clean start (5).
    pub clean_start: bool,
    /// Seconds.
    pub keep_alive: u16,
    /// User name, if the broker asks for one.
    pub username: Option<&'a str>,
    /// In 3.x only together with a user name.
    pub password: Option<&'a [u8]>,
}

/// Why a probe cannot be written. The operator's configuration is at fault.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ProbeError {
    /// A field beyond what its two-byte length can say.
    #[error("{what} of the check has {length} bytes, MQTT allows 65535")]
    TooLong {
        /// The field.
        what: &'static str,
        /// Its length in bytes.
        length: usize,
    },
    /// U+0000 in a string.
    #[error("{what} of the check has U+0000 in it, which MQTT forbids")]
    Nul {
        /// The field.
        what: &'static str,
    },
    /// A password without a user name.
    #[error("the check has a password without a username; MQTT {level} wants both")]
    PasswordAlone {
        /// The level asked for.
        level: Level,
    },
    /// An empty client id.
    #[error("the check has no client id, which MQTT {level} wants here")]
    NoClientId {
        /// The level asked for.
        level: Level,
    },
}

impl Probe<'_> {
    /// Appends the CONNECT.
    ///
    /// # Errors
    ///
    /// When a broker would have to refuse the packet; nothing is written then.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), ProbeError> {
        self.check()?;
        let name: &[u8] = match self.level {
            Level::V31 => b"MQIsdp",
            Level::V311 | Level::V5 => b"MQTT",
        };
        let fields = [
            Some(self.client_id.as_bytes()),
            self.username.map(str::as_bytes),
            self.password,
        ];
        let properties = usize::from(self.level == Level::V5);
        let payload: usize = fields.iter().flatten().map(|field| 2 + field.len()).sum();
        let flags = u8::from(self.clean_start) << 1
            | u8::from(self.password.is_some()) << 6
            | u8::from(self.username.is_some()) << 7;

        out.push(0x10);
        put_var_int(out, (2 + name.len() + 4 + properties + payload) as u32);
        put_binary(out, name);
        out.extend_from_slice(&[self.level.number(), flags]);
        out.extend_from_slice(&self.keep_alive.to_be_bytes());
        if self.level == Level::V5 {
            out.push(0);
        }
        for field in fields.into_iter().flatten() {
            put_binary(out, field);
        }
        Ok(())
    }

    fn check(&self) -> Result<(), ProbeError> {
        let level = self.level;
        for (what, field) in [
            ("client id", Some(self.client_id.as_bytes())),
            ("username", self.username.map(str::as_bytes)),
            ("password", self.password),
        ] {
            let field = field.unwrap_or_default();
            if field.len() > usize::from(u16::MAX) {
                let length = field.len();
                return Err(ProbeError::TooLong { what, length });
            }
            if what != "password" && field.contains(&0) {
                return Err(ProbeError::Nul { what });
            }
        }
        if level != Level::V5 && self.password.is_some() && self.username.is_none() {
            return Err(ProbeError::PasswordAlone { level });
        }
        let may_be_empty = match level {
            Level::V31 => false,
            Level::V311 => self.clean_start,
            Level::V5 => true,
        };
        if self.client_id.is_empty() && !may_be_empty {
            return Err(ProbeError::NoClientId { level });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mqtt::connect::{self, Parsed};

    /// The CONNECT that NGINX's guide to MQTT sends as its health check.
    const NGINX: &[u8] = b"\x10\x20\x00\x06MQIsdp\x03\x02\x00\x3c\x00\x12nginx health check";

    fn probe(level: Level) -> Probe<'static> {
        Probe {
            level,
            client_id: "nginx health check",
            clean_start: true,
            keep_alive: 60,
            username: None,
            password: None,
        }
    }

    #[test]
    fn d03_at_level_3_1_it_is_the_packet_of_the_nginx_guide() {
        let mut out = Vec::new();
        probe(Level::V31).encode(&mut out).expect("a valid probe");
        assert_eq!(out, NGINX);
    }

    #[test]
    fn our_own_parser_reads_every_level_back() {
        for level in [Level::V31, Level::V311, Level::V5] {
            for length in [1, 60, 127, 128, 20_000, 65_535] {
                let id = "é".repeat(length / 2) + &"x".repeat(length % 2);
                let wanted = Probe {
                    client_id: &id,
                    username: Some("check"),
                    password: Some(b"\0secret"),
                    ..probe(level)
                };
                let mut out = Vec::new();
                wanted.encode(&mut out).expect("a valid probe");
                let Ok(Parsed::Connect(read)) = connect::parse(&out, out.len()) else {
                    panic!("MQTT {level} with an id of {length} bytes is not read back");
                };
                assert_eq!(read.len, out.len());
                assert_eq!((read.level, read.client_id), (level, id.as_str()));
                assert_eq!((read.username, read.keep_alive), (Some("check"), 60));
                assert!(read.clean_start && !read.will && !read.is_persistent());
            }
        }
    }

    #[test]
    fn what_a_broker_would_refuse_is_not_written() {
        let long = "x".repeat(65_536);
        let v31 = probe(Level::V31);
        for (bad, want) in [
            (
                Probe {
                    client_id: "",
                    ..v31
                },
                "the check has no client id, which MQTT 3.1 wants here",
            ),
            (
                Probe {
                    client_id: "",
                    clean_start: false,
                    ..probe(Level::V311)
                },
                "the check has no client id, which MQTT 3.1.1 wants here",
            ),
            (
                Probe {
                    password: Some(b"x"),
                    ..v31
                },
                "the check has a password without a username; MQTT 3.1 wants both",
            ),
            (
                Probe {
                    client_id: &long,
                    ..v31
                },
                "client id of the check has 65536 bytes, MQTT allows 65535",
            ),
            (
                Probe {
                    username: Some("a\0b"),
                    ..v31
                },
                "username of the check has U+0000 in it, which MQTT forbids",
            ),
        ] {
            let mut out = Vec::new();
            let error = bad.encode(&mut out).expect_err("a broker refuses it");
            assert_eq!((error.to_string().as_str(), out.len()), (want, 0));
        }
    }
}
