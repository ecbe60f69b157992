//! Looking a name up: the hosts file first, then DNS.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use hickory_resolver::config::{
    ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts,
};
use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::op::Query;
use hickory_resolver::proto::rr::{Name, RecordType};
use hickory_resolver::{Hosts, TokioResolver, system_conf};
use parking_lot::Mutex;

use super::state::Found;

/// The longest that one name server gets for one question.
const SERVER_TIME: Duration = Duration::from_secs(2);

/// The longest that a look-up takes, with all servers, repeats and search domains.
const WHOLE_TIME: Duration = Duration::from_secs(15);

/// The files that say how names are looked up.
const FILES: [&str; 2] = ["/etc/resolv.conf", "/etc/hosts"];

/// Looks names up. Clones share their connections.
#[derive(Clone)]
pub struct Resolver {
    /// In place of the system's name servers and hosts file.
    name_server: Option<SocketAddr>,
    ready: Arc<Mutex<Option<Ready>>>,
}

impl std::fmt::Debug for Resolver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Resolver")
            .field("name_server", &self.name_server)
            .finish_non_exhaustive()
    }
}

#[derive(Clone)]
struct Ready {
    dns: TokioResolver,
    hosts: Arc<Hosts>,
    files: [Option<SystemTime>; 2],
}

impl Resolver {
    /// As the system says: `/etc/hosts` and `/etc/resolv.conf`, read again when they change.
    #[must_use]
    pub fn system() -> Self {
        Self {
            name_server: None,
            ready: Arc::default(),
        }
    }

    /// Asks this server only, over UDP or TCP, and no file.
    #[must_use]
    pub fn with_name_server(at: SocketAddr) -> Self {
        Self {
            name_server: Some(at),
            ready: Arc::default(),
        }
    }

    /// Looks a name up. Takes 15 s at most; failures are part of what it answers.
    pub async fn look_up(&self, host: &str) -> Found {
        let failed = |trouble: String| Found {
            trouble: Some(trouble),
            ..Found::default()
        };
        let Ready { dns, hosts, .. } = match self.ready() {
            Ok(ready) => ready,
            Err(error) => return failed(error.to_string()),
        };
        if let Some(found) = in_hosts(&hosts, host) {
            return found;
        }
        let both = async {
            tokio::join!(
                dns.lookup(host, RecordType::A),
                dns.lookup(host, RecordType::AAAA)
            )
        };
        match tokio::time::timeout(WHOLE_TIME, both).await {
            Ok((v4, v6)) => found(v4, v6),
            Err(_) => failed("no answer".into()),
        }
    }

    fn ready(&self) -> Result<Ready, NetError> {
        let files = if self.name_server.is_some() {
            [None; 2]
        } else {
            FILES.map(|file| {
                std::fs::metadata(file)
                    .and_then(|file| file.modified())
                    .ok()
            })
        };
        let mut ready = self.ready.lock();
        if let Some(ready) = ready.as_ref().filter(|ready| ready.files == files) {
            return Ok(ready.clone());
        }
        let new = Ready {
            dns: self.build()?,
            hosts: Arc::new(match self.name_server {
                Some(_) => Hosts::default(),
                None => Hosts::from_system().unwrap_or_default(),
            }),
            files,
        };
        Ok(ready.insert(new).clone())
    }

    fn build(&self) -> Result<TokioResolver, NetError> {
        let (config, mut options) = match self.name_server {
            Some(at) => (only(at), ResolverOpts::default()),
            // Without a usable file the C library asks this machine, and so do we.
            None => system_conf::read_system_conf().unwrap_or_else(|_| {
                (
                    only(SocketAddr::from(([127, 0, 0, 1], 53))),
                    ResolverOpts::default(),
                )
            }),
        };
        // What was looked up is kept by those who asked; a kept failure would only delay the news that a name is there.
        options.cache_size = 0;
        options.use_hosts_file = ResolveHosts::Never;
        options.timeout = options.timeout.min(SERVER_TIME);
        options.attempts = options.attempts.clamp(1, 2);
        let mut builder =
            TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        *builder.options_mut() = options;
        builder.build()
    }
}

fn only(at: SocketAddr) -> ResolverConfig {
    let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
        connection.port = at.port();
        connection
    });
    let mut server = NameServerConfig::udp(at.ip());
    server.connections = connections.into();
    ResolverConfig::from_name_servers(vec![server])
}

/// What the hosts file says. A name that it knows is not asked for elsewhere, not even for the other family, as the C
/// library does it.
fn in_hosts(hosts: &Hosts, host: &str) -> Option<Found> {
    let name = Name::from_utf8(host).ok()?;
    let of = |kind| {
        let known = hosts.lookup_static_host(&Query::query(name.clone(), kind));
        known.map(|lookup| addresses(&lookup)).unwrap_or_default()
    };
    let (v4, v6) = (of(RecordType::A), of(RecordType::AAAA));
    if v4.is_empty() && v6.is_empty() {
        return None;
    }
    Some(Found {
        v4: Some(v4),
        v6: Some(v6),
        from_hosts: true,
        ..Found::default()
    })
}

fn addresses(lookup: &Lookup) -> Vec<IpAddr> {
    let records = lookup.answers().iter();
    let mut all: Vec<_> = records.filter_map(|record| record.data.ip_addr()).collect();
    all.sort_unstable();
    all.dedup();
    all
}

fn found(v4: Result<Lookup, NetError>, v6: Result<Lookup, NetError>) -> Found {
    let now = Instant::now();
    let mut found = Found::default();
    let mut ttl = |lookup: &Lookup| {
        let left = lookup.valid_until().saturating_duration_since(now);
        found.ttl = Some(found.ttl.map_or(left, |least| least.min(left)));
    };
    let mut troubles = Vec::new();
    let mut family = |answer: Result<Lookup, NetError>| match answer {
        Ok(lookup) => {
            ttl(&lookup);
            Some(addresses(&lookup))
        }
        Err(error) if error.is_no_records_found() => Some(Vec::new()),
        Err(error) => {
            troubles.push(error.to_string());
            None
        }
    };
    let (v4, v6) = (family(v4), family(v6));
    let none = [&v4, &v6]
        .iter()
        .all(|known| known.as_ref().is_none_or(Vec::is_empty));
    found.trouble = troubles.into_iter().next();
    if none && found.trouble.is_none() {
        found.trouble = Some("the name has no address".into());
    }
    Found { v4, v6, ..found }
}
