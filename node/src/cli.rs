//! The command line: what can be typed, and where it goes.

mod ask;
mod change;
mod check;
mod config;
pub mod exit;
pub mod human;
mod lists;
mod out;
mod status;

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Args, CommandFactory, Parser, Subcommand};

use exit::{Exit, Failure};
use out::Out;

/// The file that is used where none is named.
const DEFAULT_CONFIG: &str = "/etc/standfast/standfast.toml";

/// Under which heading the help lists what every verb takes.
const EVERYWHERE: &str = "For every verb";

/// A highly available MQTT balancer.
#[derive(Clone, Debug, Parser)]
#[command(name = "standfast", version, arg_required_else_help = true)]
#[command(
    after_help = "Exit codes: 0 done or all good, 1 failed or unhealthy, 2 usage or configuration error, \
                  4 no daemon answers, 5 refused by policy, 6 timed out and state unknown, 77 not permitted."
)]
pub struct Cli {
    /// What every verb takes.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// What every verb takes.
#[derive(Args, Clone, Debug)]
pub struct Global {
    /// Answer in JSON
    #[arg(long, global = true, help_heading = EVERYWHERE)]
    pub json: bool,
    /// The configuration file
    #[arg(long, global = true, help_heading = EVERYWHERE, value_name = "FILE", env = "STANDFAST_CONFIG", default_value = DEFAULT_CONFIG)]
    pub config: PathBuf,
    /// Which node of the configuration this is [default: node.name, else the host's name]
    #[arg(long, global = true, help_heading = EVERYWHERE, value_name = "NAME", env = "STANDFAST_NODE")]
    pub node: Option<String>,
    /// The daemon's control socket [default: control.socket of the configuration]
    #[arg(long, global = true, help_heading = EVERYWHERE, value_name = "PATH", env = "STANDFAST_SOCKET")]
    pub socket: Option<PathBuf>,
}

/// What to do.
#[derive(Clone, Debug, Subcommand)]
pub enum Verb {
    /// Start in the foreground (what systemd runs)
    Run(RunArgs),
    /// Show the main job on this machine: a balancer, three toy brokers, a little load; no root
    Demo(DemoArgs),
    /// The process that serves clients; `run` starts it
    #[command(hide = true)]
    Worker,
    /// Check the configuration and this machine, as a list of √ ‼ ×
    Check(CheckArgs),
    /// Listeners, pools and backends on one screen
    Status,
    /// List live connections
    Connections(ConnectionsArgs),
    /// Close a client's connections; it comes back as it likes
    Kick(KickArgs),
    /// Show and change which backend a client belongs to
    #[command(subcommand)]
    Sticky(StickyVerb),
    /// Give a backend no new clients, and move the present ones if a rate is given
    Drain(DrainArgs),
    /// Give a drained backend clients again
    Undrain(BackendArgs),
    /// Take a backend into maintenance: no checks, no connections
    Disable(DisableArgs),
    /// Take a backend out of maintenance
    Enable(BackendArgs),
    /// Set a backend's weight until the next reload
    Weight(WeightArgs),
    /// Tell where a client goes and why, rule by rule
    Explain(ExplainArgs),
    /// What happened lately: health, drains, configuration, commands
    Events(EventsArgs),
    /// Apply the configuration file; prints the differences first
    Reload(ReloadArgs),
    /// Show the configuration
    #[command(subcommand)]
    Config(ConfigVerb),
    /// Exit with 0 if the daemon serves, 1 if not (for containers)
    Healthcheck(HealthcheckArgs),
    /// Print a script that completes this command line
    Completion(CompletionArgs),
    /// Print the version
    Version,
}

/// Of `run`.
#[derive(Args, Clone, Debug)]
pub struct RunArgs {
    /// Stop when the process that started this one ends
    #[arg(long, hide = true)]
    pub with_parent: bool,
}

/// Of `demo`.
#[derive(Args, Clone, Debug)]
pub struct DemoArgs {
    /// End after so long [default: at Ctrl-C]
    #[arg(long, value_name = "N")]
    pub seconds: Option<u64>,
    /// How many toy clients
    #[arg(long, value_name = "N", default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=500))]
    pub clients: u32,
    /// Drain a broker, kill one and bring it back, and say what to watch
    #[arg(long, value_name = "BOOL", action = clap::ArgAction::Set, num_args = 0..=1, require_equals = true,
          default_value_t = true, default_missing_value = "true")]
    pub story: bool,
}

/// Of `check`.
#[derive(Args, Clone, Debug)]
pub struct CheckArgs {
    /// Exit with 1 on warnings, too
    #[arg(long)]
    pub strict: bool,
}

/// Of `connections`.
#[derive(Args, Clone, Debug)]
pub struct ConnectionsArgs {
    /// Client id; a * at the end stands for anything
    #[arg(long, value_name = "ID")]
    pub client: Option<String>,
    /// Common name of the client's certificate
    #[arg(long, value_name = "NAME")]
    pub cn: Option<String>,
    /// The client's address
    #[arg(long)]
    pub ip: Option<IpAddr>,
    /// Backend, as NAME or POOL/NAME
    #[arg(long)]
    pub backend: Option<String>,
    /// Pool
    #[arg(long)]
    pub pool: Option<String>,
    /// Listener
    #[arg(long)]
    pub listener: Option<String>,
    /// At most so many; 0 is all
    #[arg(long, value_name = "N", default_value_t = 1000)]
    pub limit: usize,
}

/// Of `kick`.
#[derive(Args, Clone, Debug)]
pub struct KickArgs {
    /// Client id
    pub client: String,
    /// Only in this pool
    #[arg(long)]
    pub pool: Option<String>,
    /// Do not ask
    #[arg(long, short)]
    pub yes: bool,
}

/// `sticky …`
#[derive(Clone, Debug, Subcommand)]
pub enum StickyVerb {
    /// List entries; clients are shown as keyed hashes, which is all that is kept of them
    List {
        /// Pool
        #[arg(long)]
        pool: Option<String>,
        /// Whose home is this backend, as NAME or POOL/NAME
        #[arg(long)]
        backend: Option<String>,
        /// At most so many; 0 is all
        #[arg(long, value_name = "N", default_value_t = 1000)]
        limit: usize,
    },
    /// Show one client's entries
    Show {
        /// Client id (or what the pool's key is)
        client: String,
        /// Pool
        #[arg(long)]
        pool: Option<String>,
    },
    /// Say where a client belongs; its present connection stays
    Set {
        /// Client id (or what the pool's key is)
        client: String,
        /// Backend, as NAME or POOL/NAME
        backend: String,
        /// Pool
        #[arg(long)]
        pool: Option<String>,
    },
    /// Forget where clients belong; their present connections stay
    Clear {
        /// One client
        #[arg(long, value_name = "ID", required_unless_present_any = ["backend", "all"])]
        client: Option<String>,
        /// All whose home is this backend
        #[arg(long, conflicts_with = "client")]
        backend: Option<String>,
        /// Everybody
        #[arg(long, conflicts_with_all = ["client", "backend"])]
        all: bool,
        /// Only in this pool
        #[arg(long)]
        pool: Option<String>,
        /// Do not ask
        #[arg(long, short)]
        yes: bool,
    },
}

/// A backend.
#[derive(Args, Clone, Debug)]
pub struct BackendArgs {
    /// Backend, as NAME or POOL/NAME
    pub backend: String,
}

/// Of `drain`.
#[derive(Args, Clone, Debug)]
pub struct DrainArgs {
    /// Backend, as NAME or POOL/NAME
    pub backend: String,
    /// Move so many of its present clients a second, e.g. 50/s [default: wait until they leave]
    #[arg(long, value_parser = parse_rate)]
    pub rate: Option<f64>,
    /// Reason code that moved MQTT 5 clients are sent: 0x9c, 0x9d, server-moved, …
    #[arg(long, value_name = "CODE", value_parser = parse_reason, requires = "rate")]
    pub reason: Option<u8>,
    /// Even if no other backend of the pool is up
    #[arg(long)]
    pub force: bool,
    /// Do not ask
    #[arg(long, short)]
    pub yes: bool,
}

/// Of `disable`.
#[derive(Args, Clone, Debug)]
pub struct DisableArgs {
    /// Backend, as NAME or POOL/NAME
    pub backend: String,
    /// Even if no other backend of the pool is up
    #[arg(long)]
    pub force: bool,
    /// Do not ask
    #[arg(long, short)]
    pub yes: bool,
}

/// Of `weight`.
#[derive(Args, Clone, Debug)]
pub struct WeightArgs {
    /// Backend, as NAME or POOL/NAME
    pub backend: String,
    /// 0 to 256; 0 takes no new clients by balancing
    #[arg(value_parser = clap::value_parser!(u32).range(0..=256))]
    pub weight: u32,
}

/// Of `explain`.
#[derive(Args, Clone, Debug)]
pub struct ExplainArgs {
    /// Client id
    pub client: String,
    /// Only in this pool
    #[arg(long)]
    pub pool: Option<String>,
    /// The client's address, for pools that go by it
    #[arg(long)]
    pub ip: Option<IpAddr>,
}

/// Of `events`.
#[derive(Args, Clone, Debug)]
pub struct EventsArgs {
    /// Go on with what happens
    #[arg(long, short)]
    pub follow: bool,
    /// Only the last so many
    #[arg(long, short = 'n', value_name = "N")]
    pub last: Option<usize>,
}

/// Of `reload`.
#[derive(Args, Clone, Debug)]
pub struct ReloadArgs {
    /// Only print the differences
    #[arg(long)]
    pub dry_run: bool,
}

/// `config …`
#[derive(Clone, Debug, Subcommand)]
pub enum ConfigVerb {
    /// Print the file, or with --effective every value that holds
    Show {
        /// Every key with the value that holds, defaults included
        #[arg(long)]
        effective: bool,
    },
}

/// Of `healthcheck`.
#[derive(Args, Clone, Debug)]
pub struct HealthcheckArgs {
    /// Also fail if this pool has fewer than min_up backends
    #[arg(long)]
    pub pool: Option<String>,
}

/// Of `completion`.
#[derive(Args, Clone, Debug)]
pub struct CompletionArgs {
    /// For which shell
    pub shell: clap_complete::Shell,
}

/// Carries out every verb but `run`, `demo` and `worker`, which are the caller's, and says how it went.
#[must_use]
pub fn run(global: &Global, verb: &Verb) -> Exit {
    run_to(global, verb, &mut Out::new(global.json))
}

fn run_to(global: &Global, verb: &Verb, out: &mut Out) -> Exit {
    let outcome = carry_out(global, verb, out);
    outcome.unwrap_or_else(|failure| out.failure(&failure))
}

/// How text for people is dressed on the standard output: with colours on a terminal, unless asked not to.
#[must_use]
pub fn style() -> human::Style {
    Out::new(false).style()
}

fn carry_out(global: &Global, verb: &Verb, out: &mut Out) -> Result<Exit, Failure> {
    match verb {
        Verb::Run(_) | Verb::Demo(_) | Verb::Worker => Err(Failure::usage(
            "this verb starts a process and is not one of the command line's own",
        )),
        Verb::Check(args) => check::run(global, args, out),
        Verb::Status => status::run(global, out),
        Verb::Connections(args) => lists::connections(global, args, out),
        Verb::Sticky(StickyVerb::List {
            pool,
            backend,
            limit,
        }) => lists::sticky(global, pool.clone(), backend.clone(), None, *limit, out),
        Verb::Sticky(StickyVerb::Show { client, pool }) => {
            lists::sticky(global, pool.clone(), None, Some(client.clone()), 0, out)
        }
        Verb::Explain(args) => lists::explain(global, args, out),
        Verb::Events(args) => lists::events(global, args, out),
        Verb::Reload(args) => change::reload(global, args, out),
        Verb::Config(ConfigVerb::Show { effective }) => config::show(global, *effective, out),
        Verb::Healthcheck(args) => status::healthcheck(global, args, out),
        Verb::Completion(args) => {
            let mut script = Vec::new();
            clap_complete::generate(args.shell, &mut Cli::command(), "standfast", &mut script);
            out.bytes(&script)
        }
        Verb::Version => out.version(),
        Verb::Kick(_)
        | Verb::Sticky(StickyVerb::Set { .. } | StickyVerb::Clear { .. })
        | Verb::Drain(_)
        | Verb::Undrain(_)
        | Verb::Disable(_)
        | Verb::Enable(_)
        | Verb::Weight(_) => change::run(global, verb, out),
    }
}

/// `50/s`, or `50`.
fn parse_rate(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix("/s").unwrap_or(text);
    let rate: f64 = number
        .trim()
        .parse()
        .map_err(|_| "write clients a second, e.g. 50/s".to_owned())?;
    if rate.is_finite() && rate > 0.0 && rate <= 1e6 {
        Ok(rate)
    } else {
        Err("write more than 0 and at most 1000000 clients a second".into())
    }
}

/// A reason code of a server's DISCONNECT (MQTT 5, section 3.14.2.1), by number or name.
fn parse_reason(text: &str) -> Result<u8, String> {
    const NAMES: [(&str, u8); 6] = [
        ("normal", 0x00),
        ("server-busy", 0x89),
        ("server-shutting-down", 0x8b),
        ("administrative-action", 0x98),
        ("use-another-server", 0x9c),
        ("server-moved", 0x9d),
    ];
    if let Some((_, code)) = NAMES.iter().find(|(name, _)| *name == text) {
        return Ok(*code);
    }
    let code = match text.strip_prefix("0x") {
        Some(digits) => u8::from_str_radix(digits, 16),
        None => text.parse(),
    };
    match code {
        Ok(code @ (0x00 | 0x80..=0xa2)) => Ok(code),
        _ => {
            let names: Vec<_> = NAMES.iter().map(|(name, _)| *name).collect();
            Err(format!(
                "write 0, 0x80 to 0xa2, or one of: {}",
                names.join(", ")
            ))
        }
    }
}

#[cfg(test)]
mod tests;
