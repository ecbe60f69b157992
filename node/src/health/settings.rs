//! What a health driver needs of the configuration, with secrets read.

use std::fs::File;
use std::io::{self, Read};
use std::net::IpAddr;
use std::path::Path;

use crate::config;

/// The longest password that MQTT can carry, with room to notice that a file has more.
const MAX_PASSWORD: u64 = 65_536;

/// How one backend is checked.
#[derive(Clone, PartialEq)]
pub struct Settings {
    /// `None` is `check = false`: up for good.
    pub check: Option<config::Check>,
    /// `pool.proxy`.
    pub proxy: Option<config::Proxy>,
    /// `pool.source`: checks leave from where clients' connections leave from.
    pub source: Option<IpAddr>,
    /// Content of `mqtt.password_file`.
    pub password: Option<Vec<u8>>,
}

impl std::fmt::Debug for Settings {
    /// Without the password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Settings")
            .field("check", &self.check)
            .field("proxy", &self.proxy)
            .field("source", &self.source)
            .finish_non_exhaustive()
    }
}

impl Settings {
    /// The settings of one backend of a pool; reads its password file.
    ///
    /// # Errors
    ///
    /// When the password file cannot be read, or has more than MQTT can carry; the text names the file.
    pub fn load(pool: &config::Pool, backend: &config::Backend) -> io::Result<Self> {
        let file = backend.check.as_ref().and_then(|check| match &check.kind {
            config::CheckKind::Mqtt { password_file, .. } => password_file.as_deref(),
            _ => None,
        });
        Ok(Self {
            check: backend.check.clone(),
            proxy: pool.proxy,
            source: pool.source,
            password: file.map(password).transpose()?,
        })
    }
}

fn password(path: &Path) -> io::Result<Vec<u8>> {
    let named = |error: io::Error| {
        io::Error::new(
            error.kind(),
            format!("password_file {}: {error}", path.display()),
        )
    };
    let mut password = Vec::new();
    let file = File::open(path).map_err(named)?;
    file.take(MAX_PASSWORD + 2)
        .read_to_end(&mut password)
        .map_err(named)?;
    if password.last() == Some(&b'\n') {
        password.pop();
        if password.last() == Some(&b'\r') {
            password.pop();
        }
    }
    if password.len() as u64 >= MAX_PASSWORD {
        return Err(named(io::Error::new(
            io::ErrorKind::InvalidData,
            "longer than 65535 bytes",
        )));
    }
    Ok(password)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_file_loses_its_last_newline_and_no_other() {
        let path = std::env::temp_dir().join(format!("standfast-password-{}", std::process::id()));
        for (content, wanted) in [
            ("secret\n", "secret"),
            ("secret\r\n", "secret"),
            ("secret\n\n", "secret\n"),
            ("secret", "secret"),
            ("", ""),
        ] {
            std::fs::write(&path, content).expect("the temporary folder takes a file");
            let read = password(&path).expect("the file is there");
            assert_eq!(read, wanted.as_bytes(), "{content:?}");
        }
        std::fs::write(&path, vec![b'x'; 65_536]).expect("the temporary folder takes a file");
        let error = password(&path).expect_err("it is too long");
        assert!(
            error.to_string().contains("longer than 65535 bytes"),
            "{error}"
        );
        std::fs::remove_file(&path).expect("the file is there");
        let error = password(&path).expect_err("it is gone");
        let name = path.display().to_string();
        assert!(error.to_string().contains(&name), "{error}");
    }
}
