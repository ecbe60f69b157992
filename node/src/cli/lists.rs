//! Long answers: connections, sticky entries, events, explanations. They are printed as they come.

use std::io;

use serde::Serialize;

use super::exit::{Exit, Failure};
use super::human::{Cell, Table, Tone, ago, bytes, left, right, safe};
use super::out::Out;
use super::{ConnectionsArgs, EventsArgs, ExplainArgs, Global, ask};
use crate::admin::command::{
    Answer, ConnectionFilter, EventQuery, ExplainQuery, Request, StickyQuery,
};
use crate::admin::view::{ConnectionRow, Explanation, StickyRow};
use crate::clock::unix_ms;
use crate::events::Event;
use crate::logging::escape::push_text;
use crate::logging::stamp;

pub fn connections(
    global: &Global,
    args: &ConnectionsArgs,
    out: &mut Out,
) -> Result<Exit, Failure> {
    let filter = ConnectionFilter {
        client: args.client.clone(),
        cn: args.cn.clone(),
        ip: args.ip,
        backend: args.backend.clone(),
        pool: args.pool.clone(),
        listener: args.listener.clone(),
        limit: Some(args.limit).filter(|limit| *limit > 0),
    };
    let head = [
        "CLIENT", "ADDRESS", "POOL", "BACKEND", "LISTENER", "MQTT", "SINCE", "IDLE", "IN", "OUT",
        "STAGE",
    ];
    let now = unix_ms();
    let list = List::new(&head, out, |row: &ConnectionRow| connection_cells(row, now));
    list.run(
        global,
        Request::Connections(filter),
        |answer| match answer {
            Answer::Connections(rows) => Ok(rows),
            other => Err(ask::unexpected(&other)),
        },
    )
}

fn connection_cells(row: &ConnectionRow, now: u64) -> Vec<Cell> {
    let or_dash = |text: &Option<String>| text.as_deref().map_or("-".into(), safe);
    vec![
        left(or_dash(&row.client.clone().filter(|id| !id.is_empty()))),
        left(row.ip.clone()),
        left(row.pool.clone()),
        left(or_dash(&row.backend)),
        left(row.listener.clone()),
        left(row.proto.map_or("-", level_name)),
        right(ago(row.since, now)),
        right(row.idle_ms.map_or("-".into(), |idle| ago(0, idle))),
        right(bytes(row.bytes_in)),
        right(bytes(row.bytes_out)),
        left(row.stage.clone()),
    ]
}

/// The protocol level of a CONNECT by the name of its standard.
fn level_name(level: u8) -> &'static str {
    match level {
        3 => "3.1",
        4 => "3.1.1",
        5 => "5",
        _ => "?",
    }
}

pub fn sticky(
    global: &Global,
    pool: Option<String>,
    backend: Option<String>,
    client: Option<String>,
    limit: usize,
    out: &mut Out,
) -> Result<Exit, Failure> {
    let wanted = client.clone();
    let query = StickyQuery {
        pool,
        client,
        backend,
        cursor: None,
        limit: Some(limit).filter(|limit| *limit > 0),
    };
    let head = [
        "CLIENT", "POOL", "HOME", "SINCE", "USED", "EXPIRES", "LIVE", "REMARKS",
    ];
    let now = unix_ms();
    let mut list = List::new(&head, out, |row: &StickyRow| sticky_cells(row, now));
    list.missing = wanted.map(|client| {
        format!("{client:?} has no home: it was never here, or not for longer than sticky.expire")
    });
    list.run(global, Request::Sticky(query), |answer| match answer {
        Answer::Sticky(rows) => Ok(rows),
        other => Err(ask::unexpected(&other)),
    })
}

fn sticky_cells(row: &StickyRow, now: u64) -> Vec<Cell> {
    let mut remarks = Vec::new();
    if row.pinned {
        remarks.push("set by command".to_owned());
    }
    if row.proposed {
        remarks.push("on its way".to_owned());
    }
    if let Some(away) = &row.away {
        remarks.push(format!("served by {away} meanwhile"));
    }
    if let Some(node) = &row.node {
        remarks.push(format!("learned by {node}"));
    }
    vec![
        left(row.client.as_deref().map_or(row.id.clone(), safe)),
        left(row.pool.clone()),
        left(row.backend.clone()),
        right(ago(row.since, now)),
        right(ago(row.used, now)),
        right(row.expires.map_or("-".into(), |at| ago(now, at))),
        right(row.live.to_string()),
        left(remarks.join(", ")),
    ]
}

pub fn explain(global: &Global, args: &ExplainArgs, out: &mut Out) -> Result<Exit, Failure> {
    let query = ExplainQuery {
        client: args.client.clone(),
        pool: args.pool.clone(),
        ip: args.ip,
    };
    let mut explained = Vec::new();
    ask::connect(global)?.ask(Request::Explain(query), |answer| match answer {
        Answer::Explained(each) => {
            explained = each;
            Ok(())
        }
        other => Err(ask::unexpected(&other)),
    })?;
    if out.is_json() {
        return out.document(&explained);
    }
    let text: Vec<_> = explained.iter().map(explanation).collect();
    out.text(&text.concat())
}

pub(super) fn explanation(one: &Explanation) -> String {
    let mut text = format!(
        "{} in pool {} on {} → {}  ({})\n",
        safe(&one.client),
        one.pool,
        one.node,
        one.backend.as_deref().unwrap_or("nowhere"),
        one.why
    );
    for (n, step) in one.steps.iter().enumerate() {
        text.push_str(&format!("  {}. ", n + 1));
        push_text(&mut text, step);
        text.push('\n');
    }
    text
}

pub fn events(global: &Global, args: &EventsArgs, out: &mut Out) -> Result<Exit, Failure> {
    let query = EventQuery {
        most: args.last,
        follow: args.follow,
    };
    let mut outcome = Ok(Exit::Done);
    let mut gathered = Vec::new();
    let json = out.is_json();
    ask::connect(global)?.ask(Request::Events(query), |answer| match answer {
        Answer::Events(events) if json && !args.follow => {
            gathered.extend(events);
            Ok(())
        }
        Answer::Events(events) => {
            for event in &events {
                // Whoever follows wants each event when it comes, one a line.
                let line = if json {
                    serde_json::to_string(event)? + "\n"
                } else {
                    event_line(event, out)
                };
                outcome = out.text(&line);
            }
            Ok(())
        }
        Answer::End(_) => Ok(()),
        other => Err(ask::unexpected(&other)),
    })?;
    if json && !args.follow {
        return out.document(&gathered);
    }
    outcome
}

fn event_line(event: &Event, out: &Out) -> String {
    let at = std::time::UNIX_EPOCH + std::time::Duration::from_millis(event.at);
    let tone = match event.level.as_str() {
        "error" => Tone::Bad,
        "warn" => Tone::Odd,
        _ => Tone::Dim,
    };
    let level = out.style().paint(tone, &format!("{:<6}", event.level));
    let mut line = format!("{}  {level}  ", stamp::rfc3339(at));
    push_text(&mut line, &event.kind);
    if !event.subject.is_empty() {
        line.push(' ');
        push_text(&mut line, &event.subject);
    }
    line.push_str(": ");
    push_text(&mut line, &event.text);
    if !event.by.is_empty() {
        line.push_str("  (");
        push_text(&mut line, &event.by);
        line.push(')');
    }
    line.push('\n');
    line
}

/// Prints pages of rows: as a table each, under one head, or as one JSON array.
struct List<'a, T, F: Fn(&T) -> Vec<Cell>> {
    head: &'a [&'a str],
    out: &'a mut Out,
    cells: F,
    /// Why it is a failure that there are no rows, where it is one.
    missing: Option<String>,
    rows: std::marker::PhantomData<fn(T)>,
}

impl<'a, T: Serialize, F: Fn(&T) -> Vec<Cell>> List<'a, T, F> {
    fn new(head: &'a [&'a str], out: &'a mut Out, cells: F) -> Self {
        Self {
            head,
            out,
            cells,
            missing: None,
            rows: std::marker::PhantomData,
        }
    }

    fn run(
        self,
        global: &Global,
        request: Request,
        mut rows_of: impl FnMut(Answer) -> io::Result<Vec<T>>,
    ) -> Result<Exit, Failure> {
        let json = self.out.is_json();
        let (mut printed, mut more) = (0, false);
        let mut outcome = Ok(Exit::Done);
        ask::connect(global)?.ask(request, |answer| {
            if let Answer::End(end) = answer {
                more = end.more;
                return Ok(());
            }
            let rows = rows_of(answer)?;
            let text = if json {
                json_rows(&rows, printed == 0)?
            } else {
                self.table(&rows, printed == 0)
            };
            printed += rows.len();
            outcome = self.out.text(&text);
            Ok(())
        })?;
        if printed == 0
            && let Some(missing) = self.missing
        {
            // Said once: a failure has a document of its own.
            return Err(Failure::new(Exit::Failed, missing));
        }
        if json {
            outcome = self.out.text(if printed == 0 { "[]\n" } else { "\n]\n" });
        } else if printed == 0 {
            self.out.remark("none");
        }
        if more {
            self.out.remark(&format!(
                "only the first {printed} are shown; --limit N shows more, --limit 0 all"
            ));
        }
        outcome
    }

    fn table(&self, rows: &[T], first: bool) -> String {
        let mut table = Table::default();
        if first {
            let head = self.head.iter().map(|name| left(*name).tone(Tone::Dim));
            table.row(head.collect());
        }
        for row in rows {
            table.row((self.cells)(row));
        }
        table.show(0, self.out.style())
    }
}

fn json_rows<T: Serialize>(rows: &[T], first: bool) -> io::Result<String> {
    let mut text = String::new();
    for (n, row) in rows.iter().enumerate() {
        text.push_str(if first && n == 0 { "[\n  " } else { ",\n  " });
        text.push_str(&serde_json::to_string(row)?);
    }
    Ok(text)
}
