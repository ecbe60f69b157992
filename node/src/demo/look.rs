//! What the demo asks the balancer: over its control socket, as any other command line does.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::time::Duration;

use crate::admin::client::{Client, ClientError};
use crate::admin::command::{Answer, Command, EventQuery, Request, StickyQuery};
use crate::admin::view::View;
use crate::events::Event;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// How many events are asked for: more than any screen shows.
const EVENTS: usize = 12;

/// What the balancer told.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    /// The view of `status`.
    pub view: View,
    /// By backend: sticky entries whose home it is, and how many of their clients are served elsewhere meanwhile.
    pub homes: BTreeMap<String, Homes>,
    /// The last events, oldest first.
    pub events: Vec<Event>,
}

/// Sticky entries of one backend.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Homes {
    pub all: u64,
    pub away: u64,
}

/// Asks for everything that the table shows.
pub(super) async fn look(socket: &Path) -> Result<Seen, ClientError> {
    let socket = socket.to_owned();
    apart(move || {
        let mut client = Client::connect(&socket, PATIENCE)?;
        let mut seen = Seen::default();
        let events = EventQuery {
            most: Some(EVENTS),
            follow: false,
        };
        for request in [
            Request::Status,
            Request::Sticky(StickyQuery::default()),
            Request::Events(events),
        ] {
            client.ask(request, |answer| {
                match answer {
                    Answer::View(view) => seen.view = *view,
                    Answer::Sticky(rows) => {
                        for row in rows {
                            let homes = seen.homes.entry(row.backend).or_default();
                            homes.all += 1;
                            homes.away += u64::from(row.away.is_some());
                        }
                    }
                    Answer::Events(events) => seen.events.extend(events),
                    _ => {}
                }
                Ok(())
            })?;
        }
        Ok(seen)
    })
    .await
}

/// Gives an order.
pub(super) async fn order(socket: &Path, command: Command) -> Result<(), ClientError> {
    let socket = socket.to_owned();
    apart(move || {
        let mut client = Client::connect(&socket, PATIENCE)?;
        client.ask(Request::Command(command), |_| Ok(()))
    })
    .await
}

/// The client blocks, and brokers and clients must not wait for it.
async fn apart<T: Send + 'static>(
    ask: impl FnOnce() -> Result<T, ClientError> + Send + 'static,
) -> Result<T, ClientError> {
    match tokio::task::spawn_blocking(ask).await {
        Ok(outcome) => outcome,
        Err(error) => Err(ClientError::Broken {
            path: "control.sock".into(),
            why: io::Error::other(error).to_string(),
        }),
    }
}
