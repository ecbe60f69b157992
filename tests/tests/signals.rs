//! Signals that come to all processes of the program at once: from a terminal, from a service manager.

use standfast_tests::prelude::*;
use standfast_tests::program::Signal;

#[test]
fn ctrl_c_on_a_terminal_stops_the_program_in_good_order() {
    let broker = FakeBroker::start();
    let mut standfast = Standfast::start(&format!(
        r#"
        [[listener]]
        bind = "127.0.0.1:${{port:mqtt}}"
        pool = "mqtt"
        [[pool]]
        name = "mqtt"
        backends = [{{ name = "b1", addr = "{}" }}]
        "#,
        broker.addr()
    ));
    let _held = Client::id(standfast.addr("mqtt"), "c1");
    // A terminal sends the signal to the guardian and to the worker.
    let program = standfast.program_mut();
    program.signal_group(Signal::INT).expect("it runs");
    let mut status = None;
    eventually(s(20), "the end", || {
        status = program.ended();
        status.is_some()
    });
    let said = program.stderr();
    assert_eq!(status.and_then(|status| status.code()), Some(0), "{said}");
    assert_eq!(standfast.line_of("c1")["end"], "shutdown");
}
