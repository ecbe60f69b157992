//! The program `standfast`.

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let config = arguments
        .iter()
        .position(|argument| argument == "--config")
        .and_then(|at| arguments.get(at + 1))
        .cloned()
        .unwrap_or_default();
    match arguments.first().map(String::as_str) {
        Some("worker") => standfast::worker::run(&standfast::worker::Arguments {
            config: config.into(),
            node: None,
        }),
        _ => {
            let worker = ["worker", "--config", &config].map(Into::into).to_vec();
            match standfast::guardian::run(worker) {
                Ok(code) => ExitCode::from(u8::try_from(code).unwrap_or(1)),
                Err(error) => {
                    eprintln!("standfast: {error}");
                    ExitCode::FAILURE
                }
            }
        }
    }
}
