//! Numbers of users and groups by name, as `/etc/passwd` and `/etc/group` have them.

use std::path::Path;

/// The number of a user, by name or as written.
#[must_use]
pub fn user(name: &str) -> Option<u32> {
    id(Path::new("/etc/passwd"), name)
}

/// The number of a group, by name or as written.
#[must_use]
pub fn group(name: &str) -> Option<u32> {
    id(Path::new("/etc/group"), name)
}

fn id(file: &Path, name: &str) -> Option<u32> {
    let by_name = std::fs::read_to_string(file)
        .ok()
        .and_then(|text| find(&text, name));
    // A name of digits is rare but allowed, so the file is asked first.
    by_name.or_else(|| name.parse().ok())
}

/// Both files begin with name, password and number.
fn find(text: &str, name: &str) -> Option<u32> {
    text.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(name))
            .then(|| fields.nth(1).and_then(|id| id.parse().ok()))
            .flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_looked_up_whole() {
        let text = "root:x:0:0:root:/root:/bin/bash\nstand:x:7:7::/:\nstandfast:x:8:8::/:\n";
        assert_eq!(find(text, "standfast"), Some(8));
        assert_eq!(find(text, "stand"), Some(7));
        assert_eq!(find(text, "st"), None);
    }

    #[test]
    fn a_number_needs_no_name() {
        assert_eq!(user("root"), Some(0));
        assert_eq!(group("64999"), Some(64999));
        assert_eq!(group("no such group"), None);
    }
}
