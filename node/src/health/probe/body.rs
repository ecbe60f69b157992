//! The body of a Health API, for display: `{"status": "UP", "components": {"mqtt": {"status": "UP", …}}}`.
//!
//! Nothing is decided by it, and whatever does not look like this is passed over.

use serde_json::{Map, Value};

/// The most components that are kept.
const MAX_COMPONENTS: usize = 32;

/// The deepest nesting of components that is followed.
const MAX_DEPTH: usize = 32;

/// The longest name or status that is kept, in characters.
const MAX_TEXT: usize = 64;

/// The status, and the components (`mqtt/tcp-listener`) with theirs.
pub(super) fn read(body: &[u8]) -> (Option<String>, Vec<(String, String)>) {
    // serde_json gives up on JSON nested deeper than 128, before it would be a danger to the stack.
    let Ok(Value::Object(root)) = serde_json::from_slice(body) else {
        return (None, Vec::new());
    };
    let mut components = Vec::new();
    walk(&root, "", MAX_DEPTH, &mut components);
    (status(&root), components)
}

fn walk(of: &Map<String, Value>, path: &str, depth: usize, into: &mut Vec<(String, String)>) {
    let Some(Value::Object(components)) = of.get("components") else {
        return;
    };
    for (name, component) in components {
        let Value::Object(component) = component else {
            continue;
        };
        if into.len() == MAX_COMPONENTS || depth == 0 {
            return;
        }
        let name = clean(name);
        let name = match path {
            "" => name,
            path => clean(&format!("{path}/{name}")),
        };
        if let Some(status) = status(component) {
            into.push((name.clone(), status));
        }
        walk(component, &name, depth - 1, into);
    }
}

fn status(of: &Map<String, Value>) -> Option<String> {
    of.get("status")?.as_str().map(clean)
}

/// Text from outside, fit for a terminal.
fn clean(text: &str) -> String {
    text.chars()
        .take(MAX_TEXT)
        .map(|c| if c.is_control() { '\u{FFFD}' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(of: &[(&str, &str)]) -> Vec<(String, String)> {
        of.iter()
            .map(|(name, status)| ((*name).into(), (*status).into()))
            .collect()
    }

    #[test]
    fn b06_components_come_depth_first_with_their_path() {
        let body = br#"{"status":"DEGRADED_SERVICE","details":{"x":1},"components":{
            "cluster":{"status":"UP","components":{"license":{"status":"UNKNOWN"}}},
            "mqtt":{"status":"DEGRADED","components":{"tcp 1":{"status":"DOWN","details":[]}}}}}"#;
        let (status, components) = read(body);
        assert_eq!(status.as_deref(), Some("DEGRADED_SERVICE"));
        let wanted = [
            ("cluster", "UP"),
            ("cluster/license", "UNKNOWN"),
            ("mqtt", "DEGRADED"),
            ("mqtt/tcp 1", "DOWN"),
        ];
        assert_eq!(components, pairs(&wanted));
    }

    #[test]
    fn anything_odd_is_passed_over() {
        let odd: [&[u8]; 9] = [
            b"",
            b"{",
            b"[]",
            b"null",
            b"\xFF\xFE",
            br#"{"status":7}"#,
            br#"{"components":[1]}"#,
            br#"{"components":{"a":1,"b":{"status":[]}}}"#,
            b"<html>UP</html>",
        ];
        for body in odd {
            assert_eq!(read(body), (None, Vec::new()), "{body:?}");
        }
    }

    #[test]
    fn b06_json_nested_a_thousand_deep_is_no_danger() {
        let deep = r#"{"status":"UP","components":{"a":"#.repeat(1000) + "1" + &"}}".repeat(1000);
        assert_eq!(read(deep.as_bytes()), (None, Vec::new()));
        let deep = r#"{"status":"UP","components":{"a":"#.repeat(50) + "1" + &"}}".repeat(50);
        assert_eq!(read(deep.as_bytes()).1.len(), MAX_COMPONENTS);
    }

    #[test]
    fn many_components_and_long_or_wild_names_are_cut() {
        let many: Vec<String> = (0..1000)
            .map(|n| format!(r#""c{n}":{{"status":"UP"}}"#))
            .collect();
        let (_, components) =
            read(format!(r#"{{"components":{{{}}}}}"#, many.join(",")).as_bytes());
        assert_eq!(components.len(), MAX_COMPONENTS);
        let wild = format!(r#"{{"status":"\u001b[31m{}"}}"#, "x".repeat(1000));
        let status = read(wild.as_bytes()).0.expect("a status is there");
        assert_eq!(status.chars().count(), MAX_TEXT);
        assert!(status.starts_with("\u{FFFD}[31mx"), "{status}");
    }
}
