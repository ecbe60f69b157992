//! A reload: read the file, find what it changes, apply that in place. A file with problems changes nothing.
//!
//! The order is that of what can fail: the file, password files, the guardian's sockets. After those, nothing that
//! serves clients can go wrong any more.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use super::build;
use super::daemon::{Daemon, STOP_GRACE, load_settings, millis, set_limits};
use super::guard::bind_errors;
use crate::admin::house::Refused;
use crate::admin::view::{Done, ReloadView};
use crate::clock::unix_ms;
use crate::config;
use crate::events::Loudness;

impl Daemon {
    /// Reads the file again and applies the difference; with `dry_run` only says what it would be.
    pub(super) async fn reload(&self, dry_run: bool, by: &str) -> Result<Done, Refused> {
        let _turn = self.one_by_one.lock().await;
        let outcome = self.try_reload(dry_run, by).await;
        if !dry_run {
            let (applied, text) = match &outcome {
                Ok(done) if done.changed.is_empty() => (true, "nothing has changed".to_owned()),
                Ok(done) => (true, done.changed.join("; ")),
                Err(refused) => (false, refused.message.clone()),
            };
            let loudness = if applied {
                Loudness::Notice
            } else {
                Loudness::Error
            };
            let said = if applied {
                format!("reloaded: {text}")
            } else {
                format!("the configuration was not applied, the running one stays: {text}")
            };
            let file = self.arguments.config.display().to_string();
            self.events.note(loudness, "config", &file, &said, by);
            *self.last_reload.lock() = Some(ReloadView {
                at: unix_ms(),
                applied,
                text,
                by: by.to_owned(),
            });
        }
        outcome
    }

    async fn try_reload(&self, dry_run: bool, by: &str) -> Result<Done, Refused> {
        let before = self.loaded.load_full();
        let mut loaded = config::load(&self.arguments.config, &self.overrides)
            .map_err(|problems| Refused::invalid(problems.to_string()))?;
        let mut done = Done {
            node: loaded.config.node.name.clone(),
            warnings: loaded.warnings.iter().map(ToString::to_string).collect(),
            ..Done::default()
        };
        for change in config::diff(&before.config, &loaded.config) {
            if change.needs_restart {
                let text = format!("{change}: takes effect when the service is restarted");
                done.warnings.push(text);
            } else {
                done.changed.push(change.to_string());
            }
        }
        if dry_run {
            return Ok(done);
        }
        // What cannot change while the process runs stays as it is, also in what is shown.
        loaded.config.node = config::Node {
            restart_grace: loaded.config.node.restart_grace,
            ..before.config.node.clone()
        };
        let settings =
            load_settings(&loaded.config).map_err(|error| Refused::failed(error.to_string()))?;
        let sockets = self
            .guard
            .plan(build::plan(&loaded.config), millis(STOP_GRACE))
            .await
            .map_err(|error| Refused::failed(format!("the guardian does not answer: {error}")))?
            .map_err(|errors| Refused::failed(bind_errors(&errors)))?;
        if let Some(server) = self.server.get()
            && let Err(error) = server.apply(&loaded.config.control)
        {
            done.warnings
                .push(format!("control sockets stay as they were: {error}"));
        }
        let logs = self.logging.reconfigure(&loaded.config.log);
        if let Err(error) = logs.and_then(|()| self.shared.access.reconfigure(&loaded.config.log)) {
            done.warnings
                .push(format!("logs stay as they were: {error}"));
        }
        let config = &loaded.config;
        set_limits(&self.shared, config, self.birth.fd_limit);
        let snapshot = build::snapshot(config, Some(&self.snapshot.load()), &self.ids);
        self.snapshot.store(Arc::new(snapshot));
        self.loaded.store(Arc::new(loaded));
        self.loaded_at.store(unix_ms(), Relaxed);
        self.watch(settings).await;
        self.listen(sockets).await;
        self.keep();
        tracing::debug!(by, "configuration applied");
        Ok(done)
    }
}
