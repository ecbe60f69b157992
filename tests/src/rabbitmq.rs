//! A real RabbitMQ with its MQTT plugin: the broker that takes CRC32C and PROXY headers seriously. It takes half a minute
//! to start, so a test binary starts one.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::ports;
use crate::program::{Dir, Program, installed};
use crate::wait::within;

/// Where Debian keeps the real programs; those in `PATH` change user first.
const HOME: &str = "/usr/lib/rabbitmq/bin/rabbitmq-server";

/// A running broker with a node name, ports, directories and port mapper of its own. Dropping it ends them all.
#[derive(Debug)]
pub struct RabbitMq {
    program: Program,
    // After the broker, which talks to it while it ends.
    _mapper: Program,
    address: SocketAddr,
    _dir: Dir,
}

impl RabbitMq {
    /// With the MQTT plugin on a port of 127.0.0.1, asking for PROXY headers where `is_proxied`; any user may come in.
    ///
    /// # Errors
    ///
    /// Where it is not installed, or does not start within two minutes.
    pub fn start(is_proxied: bool) -> Result<Self> {
        if !Path::new(HOME).is_file() {
            anyhow::bail!("rabbitmq-server is not installed");
        }
        let dir = Dir::new("rabbitmq");
        let place = dir.path().display().to_string();
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, ports::free()));
        let (mapper_port, distribution) = (ports::free(), ports::free());
        let config = format!(
            "listeners.tcp = none\nmqtt.listeners.tcp.default = {address}\nmqtt.allow_anonymous = true\n\
             mqtt.proxy_protocol = {is_proxied}\nloopback_users.guest = false\nlog.console = true\n\
             log.console.level = info\nlog.file = false\n"
        );
        let config = dir.write("rabbitmq.conf", &config);
        let plugins = dir.write("enabled_plugins", "[rabbitmq_mqtt].\n");
        dir.write("empty.conf", "");

        let mut command = Command::new(installed("epmd")?);
        command.args(["-port", &mapper_port.to_string(), "-address", "127.0.0.1"]);
        let mut mapper = Program::start("epmd", &mut command, dir.path())?;
        mapper.wait_ready(Duration::from_secs(10), || {
            TcpStream::connect((Ipv4Addr::LOCALHOST, mapper_port)).is_ok()
        })?;

        let mut command = Command::new(HOME);
        command
            .env("HOME", &place)
            .env("RABBITMQ_NODENAME", format!("sft{mapper_port}@localhost"))
            .env("RABBITMQ_CONFIG_FILE", &config)
            .env("RABBITMQ_CONF_ENV_FILE", dir.path().join("empty.conf"))
            .env("RABBITMQ_ENABLED_PLUGINS_FILE", &plugins)
            .env("RABBITMQ_MNESIA_BASE", dir.path().join("mnesia"))
            .env("RABBITMQ_LOG_BASE", dir.path().join("log"))
            .env("RABBITMQ_PID_FILE", dir.path().join("pid"))
            .env("RABBITMQ_DIST_PORT", distribution.to_string())
            .env("ERL_EPMD_PORT", mapper_port.to_string())
            .env("ERL_EPMD_ADDRESS", "127.0.0.1");
        let mut program = Program::start("rabbitmq", &mut command, dir.path())?;
        program
            .wait_ready(Duration::from_secs(120), || {
                TcpStream::connect(address).is_ok()
            })
            .context("RabbitMQ")?;
        Ok(Self {
            program,
            _mapper: mapper,
            address,
            _dir: dir,
        })
    }

    /// Where MQTT is.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.address
    }

    /// Its log until now.
    #[must_use]
    pub fn log(&self) -> String {
        self.program.stdout()
    }

    /// Waits for a line of its log that contains `text`: it writes them some time after the fact.
    ///
    /// # Panics
    ///
    /// Where none comes in 10 s.
    #[must_use]
    #[track_caller]
    pub fn log_line(&self, text: &str) -> String {
        let what = format!("a line of RabbitMQ's log with {text:?}");
        within(Duration::from_secs(10), &what, || {
            let log = self.log();
            let mut lines = log.lines();
            lines.find(|line| line.contains(text)).map(str::to_owned)
        })
    }
}
