//! What the control sockets ask of the daemon.

use std::net::IpAddr;
use std::sync::Arc;

use standfast_gossip::sticky::Filter as StickyFilter;
use standfast_proto::mqtt::disconnect::Reason;

use super::daemon::{Daemon, Drain};
use crate::admin::command::{Command, ConnectionFilter, StickyClear, StickyPage, StickyQuery};
use crate::admin::house::{House, Refused, find};
use crate::admin::view::{ConnectionRow, Done, Explanation, StickyRow, View};
use crate::clock::unix_ms;
use crate::config::{Balance, Key};
use crate::end::End;
use crate::events::{Events, Loudness};
use crate::plane::{Filter, Row, Select};
use crate::pool::{Admin, Backend, Pool};
use crate::route::{Outcome, Request};

/// How many slots of a sticky table one page walks.
const PAGE: usize = 1000;

/// Where an address matters and none was given, a client without one.
const NO_IP: IpAddr = IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED);

impl House for Daemon {
    fn view(&self) -> View {
        self.look()
    }

    async fn connections(&self, filter: ConnectionFilter) -> Vec<ConnectionRow> {
        // What the planes can pick out they do; the rest is picked here, so the limit counts what fits.
        let client_id = filter
            .client
            .clone()
            .filter(|client| !client.ends_with('*'));
        let plane = Filter {
            client_id,
            pool: filter.pool.clone(),
            ..Filter::default()
        };
        let rows = self.planes().list(&plane, usize::MAX).await;
        let most = filter.limit.unwrap_or(usize::MAX);
        rows.into_iter()
            .map(connection_row)
            .filter(|row| filter.fits(row))
            .take(most)
            .collect()
    }

    fn sticky(&self, query: &StickyQuery) -> Result<StickyPage, Refused> {
        let pools = self.sticky_pools(query.pool.as_deref())?;
        let backend = match &query.backend {
            Some(written) => Some(self.find(written)?),
            None => None,
        };
        let fits = |row: &StickyRow| {
            backend
                .as_ref()
                .is_none_or(|backend| *row.pool == *backend.pool && *row.backend == *backend.name)
        };
        if let Some(client) = &query.client {
            let rows = pools
                .iter()
                .filter_map(|pool| row_of_client(pool, client))
                .filter(fits)
                .collect();
            return Ok(StickyPage { rows, next: None });
        }
        let (place, cursor) = parse_cursor(query.cursor.as_deref())?;
        let Some(pool) = pools.get(place) else {
            return Ok(StickyPage::default());
        };
        let most = query.limit.map_or(PAGE, |limit| limit.min(PAGE));
        let (records, next) = pool.router.table().page(cursor, most);
        let expire = u64::try_from(pool.config.sticky.expire.as_millis()).unwrap_or(u64::MAX);
        let rows = records
            .into_iter()
            .map(|record| StickyRow {
                pool: pool.name.to_string(),
                id: record.id.to_string(),
                client: None,
                backend: record.backend.to_string(),
                away: record.away.map(|away| away.to_string()),
                since: record.since,
                used: record.seen,
                expires: (record.live == 0).then(|| record.seen.saturating_add(expire)),
                live: record.live,
                pinned: record.pinned,
                proposed: false,
                node: None,
            })
            .filter(fits)
            .collect();
        let next = match next {
            Some(cursor) => Some(format!("{place}:{cursor}")),
            None => (place + 1 < pools.len()).then(|| format!("{}:0", place + 1)),
        };
        Ok(StickyPage { rows, next })
    }

    fn explain(
        &self,
        client: &str,
        pool: Option<&str>,
        ip: Option<IpAddr>,
    ) -> Result<Vec<Explanation>, Refused> {
        let node = self.loaded.load().config.node.name.clone();
        self.pools(pool)?
            .iter()
            .map(|pool| {
                let by_ip = pool.config.balance == Balance::Source
                    || pool.config.balance == Balance::ConsistentHash(Key::ClientIp)
                    || pool.config.balance == Balance::Sticky
                        && pool.config.sticky.key == Key::ClientIp;
                if by_ip && ip.is_none() {
                    return Err(Refused::invalid(format!(
                        "pool {} goes by the client's address: say which with --ip",
                        pool.name
                    )));
                }
                let (decision, steps) = pool.explain(&request(client, ip));
                let (backend, why) = match decision.outcome {
                    Outcome::To { index, why } => (
                        Some(pool.backends[index].name.to_string()),
                        why.as_str().to_owned(),
                    ),
                    Outcome::Wait(wait) => (None, wait.as_str().to_owned()),
                };
                Ok(Explanation {
                    node: node.clone(),
                    pool: pool.name.to_string(),
                    client: client.to_owned(),
                    backend,
                    why,
                    steps: steps
                        .into_iter()
                        .map(|step| format!("{}: {}", step.rule, step.text))
                        .collect(),
                })
            })
            .collect()
    }

    async fn command(&self, command: Command, by: &str) -> Result<Done, Refused> {
        if let Command::Reload { dry_run } = command {
            return self.reload(dry_run, by).await;
        }
        let _turn = self.one_by_one.lock().await;
        let mut done = Done {
            node: self.loaded.load().config.node.name.clone(),
            ..Done::default()
        };
        match command {
            Command::Drain {
                backend,
                rate,
                reason,
                force,
            } => {
                self.drain(&backend, rate, reason, force, by, &mut done)?;
            }
            Command::Undrain { backend } => {
                self.put(&backend, Admin::Draining, Admin::Active, by, &mut done)?
            }
            Command::Disable { backend, force } => {
                let found = self.find(&backend)?;
                self.spare_last(&found, "disable", force)?;
                let live = found.live.load(std::sync::atomic::Ordering::Relaxed);
                self.set(&found, Admin::Disabled, by, &mut done);
                if live > 0 {
                    done.changed.push(format!(
                        "closing {live} connections of {}",
                        full_name(&found)
                    ));
                    self.close_disabled(found.clone());
                }
                done.undo = Some(format!("standfast enable {}", full_name(&found)));
            }
            Command::Enable { backend } => {
                self.put(&backend, Admin::Disabled, Admin::Active, by, &mut done)?
            }
            Command::Weight { backend, weight } => {
                let found = self.find(&backend)?;
                if weight > 256 {
                    return Err(Refused::invalid(format!(
                        "weight {weight} is out of range: 0 to 256"
                    )));
                }
                let before = found.weight();
                found.set_weight(Some(weight));
                if before != weight {
                    done.changed.push(format!(
                        "weight of {} is {weight}, was {before}",
                        full_name(&found)
                    ));
                    done.undo = Some(format!("standfast weight {} {before}", full_name(&found)));
                }
                done.warnings
                    .push("it holds until the next reload".to_owned());
            }
            Command::StickySet {
                pool,
                client,
                backend,
            } => self.sticky_set(pool.as_deref(), &client, &backend, &mut done)?,
            Command::StickyClear { pool, what } => {
                self.sticky_clear(pool.as_deref(), &what, &mut done)?
            }
            Command::Kick { client, pool } => {
                let filter = Filter {
                    client_id: Some(client.clone()),
                    pool,
                    ..Filter::default()
                };
                let reason = Reason::ADMINISTRATIVE_ACTION.0;
                let closed = self
                    .planes()
                    .close(&Select::Filter(filter), usize::MAX, End::Kicked, reason)
                    .await;
                if closed == 0 {
                    return Err(Refused::not_found(format!(
                        "no connection of client {client:?} is live"
                    )));
                }
                done.changed
                    .push(format!("closed {closed} connections of {client:?}"));
            }
            Command::Reload { .. } => {}
        }
        for change in &done.changed {
            self.events
                .note(Loudness::Notice, "command", "", change, by);
        }
        Ok(done)
    }

    fn events(&self) -> &Events {
        &self.events
    }
}

impl Daemon {
    fn find(&self, written: &str) -> Result<Arc<Backend>, Refused> {
        let snapshot = self.snapshot.load();
        let all = snapshot.pools.iter().flat_map(|pool| {
            pool.backends
                .iter()
                .map(|backend| (&*pool.name, &*backend.name, backend.clone()))
        });
        find(written, all)
    }

    fn pools(&self, name: Option<&str>) -> Result<Vec<Arc<Pool>>, Refused> {
        let snapshot = self.snapshot.load();
        let pools: Vec<_> = snapshot
            .pools
            .iter()
            .filter(|pool| name.is_none_or(|name| name == &*pool.name))
            .cloned()
            .collect();
        match name {
            Some(name) if pools.is_empty() => {
                let known: Vec<_> = snapshot.pools.iter().map(|pool| &*pool.name).collect();
                Err(Refused::not_found(format!(
                    "there is no pool {name:?}; there are: {}",
                    known.join(", ")
                )))
            }
            _ => Ok(pools),
        }
    }

    fn sticky_pools(&self, name: Option<&str>) -> Result<Vec<Arc<Pool>>, Refused> {
        let mut pools = self.pools(name)?;
        pools.retain(|pool| pool.config.balance == Balance::Sticky);
        match name {
            Some(name) if pools.is_empty() => Err(Refused::not_found(format!(
                "pool {name:?} is not sticky: it has no table"
            ))),
            _ => Ok(pools),
        }
    }

    /// Refuses to take the last backend that serves out of a pool, unless forced.
    fn spare_last(&self, backend: &Arc<Backend>, verb: &str, force: bool) -> Result<(), Refused> {
        let snapshot = self.snapshot.load();
        let pool = snapshot.pools.iter().find(|pool| pool.name == backend.pool);
        let others = pool.is_some_and(|pool| {
            pool.backends
                .iter()
                .any(|other| !Arc::ptr_eq(other, backend) && other.can_serve())
        });
        if others || force || !backend.can_serve() {
            return Ok(());
        }
        Err(Refused::policy(format!(
            "{} is the last backend of its pool that serves: new clients would find none; {verb} it with --force",
            full_name(backend)
        )))
    }

    fn drain(
        &self,
        written: &str,
        rate: Option<f64>,
        reason: Option<u8>,
        force: bool,
        by: &str,
        done: &mut Done,
    ) -> Result<(), Refused> {
        let backend = self.find(written)?;
        if rate.is_some_and(|rate| !(rate > 0.0 && rate.is_finite())) {
            return Err(Refused::invalid("the rate has to be more than 0 a second"));
        }
        if backend.admin() == Admin::Disabled {
            return Err(Refused::policy(format!(
                "{} is disabled: nothing goes there anyway",
                full_name(&backend)
            )));
        }
        self.spare_last(&backend, "drain", force)?;
        let live = u64::from(backend.live.load(std::sync::atomic::Ordering::Relaxed));
        let drain = Drain {
            since: unix_ms(),
            from: live,
            rate,
            by: by.to_owned(),
        };
        self.drains
            .lock()
            .insert((backend.pool.clone(), backend.name.clone()), drain);
        self.set(&backend, Admin::Draining, by, done);
        if let Some(rate) = rate {
            done.changed.push(format!(
                "moving {live} clients of {} at {rate}/s",
                full_name(&backend)
            ));
            let reason = reason.unwrap_or(Reason::ADMINISTRATIVE_ACTION.0);
            self.move_clients(backend.clone(), rate, reason);
        }
        done.undo = Some(format!("standfast undrain {}", full_name(&backend)));
        Ok(())
    }

    /// Puts a backend from one state into another; nothing where it is in neither.
    fn put(
        &self,
        written: &str,
        from: Admin,
        to: Admin,
        by: &str,
        done: &mut Done,
    ) -> Result<(), Refused> {
        let backend = self.find(written)?;
        let is = backend.admin();
        if is == from {
            self.drains
                .lock()
                .remove(&(backend.pool.clone(), backend.name.clone()));
            self.set(&backend, to, by, done);
            let verb = if from == Admin::Draining {
                "drain"
            } else {
                "disable"
            };
            done.undo = Some(format!("standfast {verb} {}", full_name(&backend)));
        } else if is != to {
            let verb = if is == Admin::Draining {
                "undrain"
            } else {
                "enable"
            };
            done.warnings.push(format!(
                "{} is {}: standfast {verb} {} puts it back into service",
                full_name(&backend),
                word(is),
                full_name(&backend)
            ));
        }
        Ok(())
    }

    fn set(&self, backend: &Arc<Backend>, admin: Admin, by: &str, done: &mut Done) {
        let before = backend.set_admin(admin, &format!("by command ({by})"));
        if before != admin {
            done.changed.push(format!(
                "{} is {}, was {}",
                full_name(backend),
                word(admin),
                word(before)
            ));
        }
    }

    fn sticky_set(
        &self,
        pool: Option<&str>,
        client: &str,
        written: &str,
        done: &mut Done,
    ) -> Result<(), Refused> {
        let backend = match pool {
            Some(pool) if !written.contains('/') => self.find(&format!("{pool}/{written}"))?,
            _ => self.find(written)?,
        };
        let pools = self.sticky_pools(Some(&backend.pool))?;
        for pool in pools {
            let id = sticky_id(&pool, client)?;
            let table = pool.router.table();
            let before = table.lookup(id, unix_ms());
            table.set(id, table.intern(&backend.name), unix_ms());
            let was = before.map(|home| home.name.to_string());
            // Typed into a shell, so that any client id has to survive one.
            let quoted = format!("'{}'", client.replace('\'', r"'\''"));
            done.undo = Some(match &was {
                Some(home) => format!(
                    "standfast sticky set --pool {} -- {quoted} {home}",
                    pool.name
                ),
                None => format!(
                    "standfast sticky clear --pool {} --yes --client={quoted}",
                    pool.name
                ),
            });
            let was = was.unwrap_or_else(|| "no home".to_owned());
            done.changed.push(format!(
                "home of {client:?} in pool {} is {}, was {was}",
                pool.name, backend.name
            ));
        }
        Ok(())
    }

    fn sticky_clear(
        &self,
        pool: Option<&str>,
        what: &StickyClear,
        done: &mut Done,
    ) -> Result<(), Refused> {
        let backend = match what {
            StickyClear::Backend(written) => Some(match pool {
                Some(pool) if !written.contains('/') => self.find(&format!("{pool}/{written}"))?,
                _ => self.find(written)?,
            }),
            _ => None,
        };
        for pool in self.sticky_pools(pool)? {
            let table = pool.router.table();
            let cleared = match (what, &backend) {
                (StickyClear::Client(client), _) => {
                    table.clear(StickyFilter::Id(sticky_id(&pool, client)?))
                }
                (StickyClear::Backend(_), Some(backend)) if backend.pool == pool.name => {
                    table.clear(StickyFilter::Backend(&backend.name))
                }
                (StickyClear::Backend(_), _) => continue,
                (StickyClear::All, _) => table.clear(StickyFilter::All),
            };
            if cleared > 0 {
                done.changed
                    .push(format!("forgot {cleared} homes in pool {}", pool.name));
            }
        }
        if !done.changed.is_empty() {
            done.warnings
                .push("clients that are connected stay where they are".to_owned());
        }
        Ok(())
    }
}

fn full_name(backend: &Backend) -> String {
    format!("{}/{}", backend.pool, backend.name)
}

fn word(admin: Admin) -> &'static str {
    match admin {
        Admin::Active => "in service",
        Admin::Draining => "draining",
        Admin::Disabled => "disabled",
    }
}

/// A client as an operator writes it: an id, or an address where the pool goes by addresses.
fn request(client: &str, ip: Option<IpAddr>) -> Request<'_> {
    Request {
        client_id: Some(client.as_bytes()).filter(|id| !id.is_empty()),
        client_ip: ip.or_else(|| client.parse().ok()).unwrap_or(NO_IP),
        persistent: true,
    }
}

fn sticky_id(pool: &Pool, client: &str) -> Result<standfast_gossip::sticky::Id, Refused> {
    if pool.config.sticky.key == Key::ClientIp && client.parse::<IpAddr>().is_err() {
        return Err(Refused::invalid(format!(
            "pool {} goes by the client's address, and {client:?} is none",
            pool.name
        )));
    }
    pool.router
        .id(&request(client, None))
        .ok_or_else(|| Refused::invalid("the client's name is empty"))
}

fn row_of_client(pool: &Arc<Pool>, client: &str) -> Option<StickyRow> {
    let id = sticky_id(pool, client).ok()?;
    let home = pool.router.table().lookup(id, unix_ms())?;
    let expire = u64::try_from(pool.config.sticky.expire.as_millis()).unwrap_or(u64::MAX);
    Some(StickyRow {
        pool: pool.name.to_string(),
        id: id.to_string(),
        client: Some(client.to_owned()),
        backend: home.name.to_string(),
        away: home.away.map(|away| away.to_string()),
        since: home.since,
        used: home.seen,
        expires: (home.live == 0 && !home.provisional).then(|| home.seen.saturating_add(expire)),
        live: home.live,
        pinned: home.pinned,
        proposed: home.provisional,
        node: None,
    })
}

fn parse_cursor(cursor: Option<&str>) -> Result<(usize, u32), Refused> {
    let Some(cursor) = cursor else {
        return Ok((0, 0));
    };
    cursor
        .split_once(':')
        .and_then(|(place, cursor)| Some((place.parse().ok()?, cursor.parse().ok()?)))
        .ok_or_else(|| Refused::invalid(format!("{cursor:?} is not a place in a list")))
}

fn connection_row(row: Row) -> ConnectionRow {
    let since = row
        .line
        .accepted
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    ConnectionRow {
        id: format!("{:016x}", row.line.id),
        client: row.line.client_id.map(String::from),
        ip: row.line.client.to_string(),
        listener: row.line.listener.to_string(),
        pool: row.line.pool.to_string(),
        backend: row.line.backend.map(|backend| backend.to_string()),
        why: row.line.why.map(str::to_owned),
        proto: row.line.proto,
        keepalive: row.line.keepalive,
        since: u64::try_from(since.as_millis()).unwrap_or(u64::MAX),
        idle_ms: row
            .idle
            .map(|idle| u64::try_from(idle.as_millis()).unwrap_or(u64::MAX)),
        bytes_in: row.line.bytes_in,
        bytes_out: row.line.bytes_out,
        stage: row.phase.to_owned(),
    }
}
