//! Hosts made of network namespaces, on a bridge of their own; gone with the test.

use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::AsFd;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, bail};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// One host: a network namespace with loopback up. Dropping it removes it.
#[derive(Debug)]
pub struct Host {
    name: String,
    address: Ipv4Addr,
}

/// Hosts on one Ethernet: a bridge in a namespace of its own, and `10.77.0.1`, `10.77.0.2`, … on `eth0` of each host.
#[derive(Debug)]
pub struct Bridge {
    hosts: Vec<Host>,
    _switch: Host,
}

static COUNT: AtomicU32 = AtomicU32::new(0);

impl Host {
    /// A host without a network.
    ///
    /// # Errors
    ///
    /// Without root, or without namespaces in this kernel.
    pub fn new(what: &str) -> Result<Self> {
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        // `tests/run` removes what begins with `sft-` and a process that is gone.
        let name = format!("sft-{}-{count}-{what}", std::process::id());
        ip(&["netns", "add", &name])?;
        let host = Self {
            name,
            address: Ipv4Addr::LOCALHOST,
        };
        host.run("ip", &["link", "set", "lo", "up"])?;
        Ok(host)
    }

    /// The namespace's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its address on the bridge; 127.0.0.1 without one.
    #[must_use]
    pub fn ip(&self) -> IpAddr {
        self.address.into()
    }

    /// A command on this host, to be started by the caller.
    #[must_use]
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name, program]);
        command
    }

    /// Runs a command on this host to its end.
    ///
    /// # Errors
    ///
    /// Where it fails: with what it said.
    pub fn run(&self, program: &str, arguments: &[&str]) -> Result<Output> {
        succeed(self.command(program).args(arguments))
    }

    /// Runs `work` on a thread inside this host: the sockets it makes, and threads it starts, stay there.
    ///
    /// # Panics
    ///
    /// Where `work` panics, or the namespace is gone.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let path = format!("/run/netns/{}", self.name);
        std::thread::scope(|scope| {
            let inside = scope.spawn(|| {
                let file = std::fs::File::open(&path).expect("the namespace is there");
                let kind = Some(LinkNameSpaceType::Network);
                move_into_link_name_space(file.as_fd(), kind).expect("root may enter it");
                work()
            });
            match inside.join() {
                Ok(value) => value,
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = ip(&["netns", "del", &self.name]);
    }
}

impl Bridge {
    /// `count` hosts.
    ///
    /// # Errors
    ///
    /// As [`Host::new`].
    pub fn with_hosts(count: u8) -> Result<Self> {
        let switch = Host::new("switch")?;
        switch.run("ip", &["link", "add", "br0", "type", "bridge"])?;
        switch.run("ip", &["link", "set", "br0", "up"])?;
        let mut hosts = Vec::new();
        for place in 1..=count {
            let mut host = Host::new(&format!("h{place}"))?;
            host.address = Ipv4Addr::new(10, 77, 0, place);
            let port = format!("p{place}");
            let there = host.name.clone();
            switch.run(
                "ip",
                &[
                    "link", "add", &port, "type", "veth", "peer", "name", "eth0", "netns", &there,
                ],
            )?;
            switch.run("ip", &["link", "set", &port, "master", "br0", "up"])?;
            let address = format!("{}/24", host.address);
            host.run("ip", &["addr", "add", &address, "dev", "eth0"])?;
            host.run("ip", &["link", "set", "eth0", "up"])?;
            hosts.push(host);
        }
        Ok(Self {
            hosts,
            _switch: switch,
        })
    }

    /// Host `place`, counted from 1 as its address is.
    ///
    /// # Panics
    ///
    /// Where there are fewer.
    #[must_use]
    pub fn host(&self, place: usize) -> &Host {
        &self.hosts[place - 1]
    }
}

fn ip(arguments: &[&str]) -> Result<Output> {
    succeed(Command::new("ip").args(arguments))
}

fn succeed(command: &mut Command) -> Result<Output> {
    let output = command
        .output()
        .with_context(|| format!("running {command:?}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{command:?}: {} {said}", output.status);
    }
    Ok(output)
}
