//! One client of a control socket: requests in, answers out, until it goes or says nothing for too long.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::watch;
use tokio::time::timeout;

use super::command::{
    Answer, Ask, Command, ConnectionFilter, EventQuery, ListEnd, MAX_REQUEST, Reply, Request,
    StickyQuery, VERSION,
};
use super::house::{House, Refused, RefusedKind};
use crate::config::ControlLevel;
use crate::events::Event;

/// A client that asks nothing for so long is sent away.
const IDLE: Duration = Duration::from_secs(60);

/// A client that does not take its answer for so long is given up.
const STUCK: Duration = Duration::from_secs(10);

/// Rows in one line: a few hundred KiB at most for ordinary client ids.
const PAGE: usize = 500;

/// One client.
pub(super) struct Session<H, R, W> {
    pub(super) house: Arc<H>,
    /// May change while the client is there.
    pub(super) level: watch::Receiver<ControlLevel>,
    /// Who it is: `uid 0 by control socket`.
    pub(super) by: String,
    pub(super) reader: BufReader<R>,
    pub(super) writer: W,
}

impl<H: House, R: AsyncRead + Unpin, W: AsyncWrite + Unpin> Session<H, R, W> {
    /// Answers until the client goes.
    ///
    /// # Errors
    ///
    /// When it vanishes in the middle, sends no JSON line of bounded length, or is too slow.
    pub(super) async fn run(mut self) -> io::Result<()> {
        while let Some(line) = self.line().await? {
            match serde_json::from_slice::<Ask>(&line) {
                Ok(ask) if ask.v == VERSION => self.answer(ask.request).await?,
                Ok(ask) => {
                    let message = format!(
                        "this daemon speaks version {VERSION} of the control socket, the request is of version {}; \
                         use a standfast of the same release",
                        ask.v
                    );
                    self.say(Answer::Refused(Refused::invalid(message))).await?;
                }
                Err(e) => {
                    let message = format!("the request is not understood: {e}");
                    self.say(Answer::Refused(Refused::invalid(message))).await?;
                }
            }
        }
        Ok(())
    }

    /// The next line; `None` when the client has gone or is idle.
    async fn line(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut line = Vec::new();
        // One byte more than allowed tells a line that is too long from one that just fits.
        let limit = MAX_REQUEST as u64 + 1;
        let mut bounded = (&mut self.reader).take(limit);
        match timeout(IDLE, bounded.read_until(b'\n', &mut line)).await {
            Err(_) => Ok(None),
            Ok(Err(e)) => Err(e),
            Ok(Ok(0)) => Ok(None),
            Ok(Ok(_)) if line.last() == Some(&b'\n') => Ok(Some(line)),
            Ok(Ok(_)) if line.len() > MAX_REQUEST => {
                let message = format!("a request has at most {MAX_REQUEST} bytes");
                self.say(Answer::Refused(Refused::invalid(message))).await?;
                Ok(None)
            }
            Ok(Ok(_)) => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    async fn answer(&mut self, request: Request) -> io::Result<()> {
        match request {
            Request::Status => {
                let view = Box::new(self.house.view());
                self.say(Answer::View(view)).await
            }
            Request::Connections(filter) => self.connections(filter).await,
            Request::Sticky(query) => self.sticky(query).await,
            Request::Explain(query) => {
                let explained = self
                    .house
                    .explain(&query.client, query.pool.as_deref(), query.ip);
                let answer = explained.map_or_else(Answer::Refused, Answer::Explained);
                self.say(answer).await
            }
            Request::Events(query) => self.events(query).await,
            Request::Command(command) => self.command(command).await,
        }
    }

    async fn connections(&mut self, mut filter: ConnectionFilter) -> io::Result<()> {
        let limit = filter.limit;
        // One more than asked for tells whether there is more.
        filter.limit = limit.map(|limit| limit.saturating_add(1));
        let mut rows = self.house.connections(filter).await;
        let more = limit.is_some_and(|limit| rows.len() > limit);
        rows.truncate(limit.unwrap_or(usize::MAX));
        while !rows.is_empty() {
            let rest = rows.split_off(rows.len().min(PAGE));
            self.say(Answer::Connections(rows)).await?;
            rows = rest;
        }
        self.say(Answer::End(ListEnd { more })).await
    }

    async fn sticky(&mut self, mut query: StickyQuery) -> io::Result<()> {
        let mut left = query.limit.unwrap_or(usize::MAX);
        loop {
            query.limit = Some(left.min(PAGE));
            let mut page = match self.house.sticky(&query) {
                Ok(page) => page,
                Err(refused) => return self.say(Answer::Refused(refused)).await,
            };
            let mut more = page.rows.len() > left;
            page.rows.truncate(left);
            left -= page.rows.len();
            if !page.rows.is_empty() {
                self.say(Answer::Sticky(page.rows)).await?;
            }
            let Some(next) = page.next else {
                return self.say(Answer::End(ListEnd { more })).await;
            };
            if left == 0 {
                more = true;
                return self.say(Answer::End(ListEnd { more })).await;
            }
            query.cursor = Some(next);
            // A page is taken under the table's lock: others may have it between two of them.
            tokio::task::yield_now().await;
        }
    }

    async fn events(&mut self, query: EventQuery) -> io::Result<()> {
        let most = query.most.unwrap_or(usize::MAX);
        let (recent, mut live) = self.house.events().recent_and_live(most);
        for page in recent.chunks(PAGE) {
            self.say(Answer::Events(page.to_vec())).await?;
        }
        if !query.follow {
            return self.say(Answer::End(ListEnd::default())).await;
        }
        loop {
            let event = tokio::select! {
                event = live.recv() => event,
                // A follower has nothing more to say: whatever comes, it is the end.
                gone = self.reader.fill_buf() => return gone.map(drop),
            };
            match event {
                Ok(event) => self.say(Answer::Events(vec![event])).await?,
                Err(RecvError::Lagged(missed)) => {
                    self.say(Answer::Events(vec![lagged(missed)])).await?;
                }
                Err(RecvError::Closed) => return self.say(Answer::End(ListEnd::default())).await,
            }
        }
    }

    async fn command(&mut self, command: Command) -> io::Result<()> {
        let reads_only = matches!(command, Command::Reload { dry_run: true });
        if *self.level.borrow() == ControlLevel::Read && !reads_only {
            let refused = Refused::policy(
                "this control socket is read-only (control.level = \"read\"); \
                 changes need one with level = \"admin\"",
            );
            return self.say(Answer::Refused(refused)).await;
        }
        let (house, by) = (Arc::clone(&self.house), self.by.clone());
        // A task of its own: what was begun is ended, even if the client goes meanwhile.
        let done = tokio::spawn(async move { house.command(command, &by).await }).await;
        let answer = match done {
            Ok(Ok(done)) => Answer::Done(done),
            Ok(Err(refused)) => Answer::Refused(refused),
            Err(_) => Answer::Refused(Refused::new(
                RefusedKind::TimedOut,
                "the daemon gave up the command in the middle; its log says why",
            )),
        };
        self.say(answer).await
    }

    async fn say(&mut self, answer: Answer) -> io::Result<()> {
        let reply = Reply { v: VERSION, answer };
        let mut line = serde_json::to_vec(&reply)?;
        line.push(b'\n');
        timeout(STUCK, self.writer.write_all(&line))
            .await
            .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
    }
}

/// What a follower that was too slow reads in place of what it missed.
fn lagged(missed: u64) -> Event {
    Event {
        seq: 0,
        at: crate::clock::unix_ms(),
        level: "warn".into(),
        kind: "events".into(),
        subject: String::new(),
        text: format!("{missed} events were missed here"),
        by: String::new(),
    }
}
