//! Verbs that change something: asked about first where they cut connections, told about afterwards.

use std::io::{self, IsTerminal, Write};

use super::exit::{Exit, Failure};
use super::human::count;
use super::out::Out;
use super::{Global, ReloadArgs, StickyVerb, Verb, ask};
use crate::admin::client::Client;
use crate::admin::command::{Command, StickyClear};
use crate::admin::house;
use crate::admin::view::{BackendView, Done, View};

/// Carries out a verb that is one command.
pub fn run(global: &Global, verb: &Verb, out: &mut Out) -> Result<Exit, Failure> {
    let command = command_of(verb).ok_or_else(|| Failure::usage("this verb changes nothing"))?;
    let sure = match verb {
        Verb::Drain(args) => args.yes || args.rate.is_none(),
        Verb::Disable(args) => args.yes,
        Verb::Kick(args) => args.yes,
        Verb::Sticky(StickyVerb::Clear { yes, .. }) => *yes,
        _ => true,
    };
    if !sure && !may_ask() {
        return Err(Failure::new(
            Exit::Refused,
            "this cuts connections or forgets homes, and there is no terminal to ask on: add --yes",
        ));
    }
    let mut client = ask::connect(global)?;
    if !sure && !agrees(&mut client, &command)? {
        return Err(Failure::new(Exit::Failed, "nothing was changed"));
    }
    let done = ask::command(&mut client, command)?;
    tell(&done, out)
}

/// Prints what a reload changes, then reloads.
pub fn reload(global: &Global, args: &ReloadArgs, out: &mut Out) -> Result<Exit, Failure> {
    let mut client = ask::connect(global)?;
    let dry = ask::command(&mut client, Command::Reload { dry_run: true });
    if dry.is_err() && !args.dry_run {
        // Asked for in earnest, so that the daemon notes the attempt and why it came to nothing.
        ask::command(&mut client, Command::Reload { dry_run: false })?;
    }
    let dry = dry?;
    if args.dry_run {
        if out.is_json() {
            return out.document(&dry);
        }
        for warning in &dry.warnings {
            out.remark(&format!("! {warning}"));
        }
        return out.text(&diff_text(&dry));
    }
    if !out.is_json() {
        out.text(&diff_text(&dry))?;
    }
    let done = ask::command(&mut client, Command::Reload { dry_run: false })?;
    if out.is_json() {
        return out.document(&done);
    }
    for warning in &done.warnings {
        out.remark(&format!("! {warning}"));
    }
    // The differences were printed; what is left to say is that they hold.
    let mut text = format!("{}: the file is in force\n", done.node);
    if let Some(undo) = &done.undo {
        text.push_str(&format!("undo: {undo}\n"));
    }
    out.text(&text)
}

fn diff_text(dry: &Done) -> String {
    if dry.changed.is_empty() {
        return format!("{}: the file says what is so already\n", dry.node);
    }
    let mut text = format!("{}: the file changes\n", dry.node);
    for line in &dry.changed {
        text.push_str(&format!("  {line}\n"));
    }
    text
}

/// What changed, where, and how to undo it.
fn tell(done: &Done, out: &mut Out) -> Result<Exit, Failure> {
    if out.is_json() {
        return out.document(done);
    }
    for warning in &done.warnings {
        out.remark(&format!("! {warning}"));
    }
    out.text(&done_text(done))
}

pub(super) fn done_text(done: &Done) -> String {
    let mut text = String::new();
    for line in &done.changed {
        text.push_str(&format!("{}: {line}\n", done.node));
    }
    if done.changed.is_empty() {
        text.push_str(&format!(
            "{}: it is so already, nothing was changed\n",
            done.node
        ));
    }
    if let Some(undo) = &done.undo {
        text.push_str(&format!("undo: {undo}\n"));
    }
    text
}

/// The command that a verb is.
pub(super) fn command_of(verb: &Verb) -> Option<Command> {
    Some(match verb {
        Verb::Drain(args) => Command::Drain {
            backend: args.backend.clone(),
            rate: args.rate,
            reason: args.reason,
            force: args.force,
        },
        Verb::Undrain(args) => Command::Undrain {
            backend: args.backend.clone(),
        },
        Verb::Disable(args) => Command::Disable {
            backend: args.backend.clone(),
            force: args.force,
        },
        Verb::Enable(args) => Command::Enable {
            backend: args.backend.clone(),
        },
        Verb::Weight(args) => Command::Weight {
            backend: args.backend.clone(),
            weight: args.weight,
        },
        Verb::Kick(args) => Command::Kick {
            client: args.client.clone(),
            pool: args.pool.clone(),
        },
        Verb::Sticky(StickyVerb::Set {
            client,
            backend,
            pool,
        }) => Command::StickySet {
            pool: pool.clone(),
            client: client.clone(),
            backend: backend.clone(),
        },
        Verb::Sticky(StickyVerb::Clear {
            client,
            backend,
            pool,
            ..
        }) => Command::StickyClear {
            pool: pool.clone(),
            what: match (client, backend) {
                (Some(client), _) => StickyClear::Client(client.clone()),
                (None, Some(backend)) => StickyClear::Backend(backend.clone()),
                (None, None) => StickyClear::All,
            },
        },
        _ => return None,
    })
}

fn may_ask() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

/// Asks on the terminal; anything but yes is no.
fn agrees(client: &mut Client, command: &Command) -> Result<bool, Failure> {
    let view = ask::view(client)?;
    let mut stderr = io::stderr().lock();
    let _ = write!(stderr, "{} Go on? [y/N] ", question(command, &view));
    let _ = stderr.flush();
    let mut answer = String::new();
    let read = io::stdin().read_line(&mut answer);
    Ok(read.is_ok() && matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// What a command is about to do, with how many connections it concerns.
pub(super) fn question(command: &Command, view: &View) -> String {
    let node = &view.node.name;
    match command {
        Command::Drain {
            backend,
            rate: Some(rate),
            ..
        } => format!(
            "On {node}, {} will be moved, {rate} a second.",
            connections(view, backend)
        ),
        Command::Disable { backend, .. } => {
            format!("On {node}, {} will be closed.", connections(view, backend))
        }
        Command::Kick { client, .. } => {
            format!("On {node}, the connections of client {client:?} will be closed.")
        }
        Command::StickyClear { pool, what } => {
            let whose = match what {
                StickyClear::Client(client) => format!("the home of client {client:?}"),
                StickyClear::Backend(backend) => format!("all homes on {backend:?}"),
                StickyClear::All => "all homes".into(),
            };
            let pool = pool.as_ref().map(|pool| format!(" in pool {pool}"));
            format!(
                "On {node}, {whose}{} will be forgotten.",
                pool.unwrap_or_default()
            )
        }
        other => format!("On {node}: {other:?}."),
    }
}

fn connections(view: &View, written: &str) -> String {
    let all = view.pools.iter().flat_map(|pool| {
        let each = pool.backends.iter();
        each.map(|backend| (pool.name.as_str(), backend.name.as_str(), backend))
    });
    // What is wrong with the name, the daemon will say.
    let found: Option<&BackendView> = house::find(written, all).ok();
    match found {
        Some(backend) => format!(
            "the {} connections of {written}",
            count(backend.connections)
        ),
        None => format!("the connections of {written}"),
    }
}
