//! The syntax of `server.properties`: that of `java.util.Properties`.

use std::iter::Peekable;
use std::str::Chars;

/// The entries of a properties text in their order; of repeated keys the last one counts.
///
/// Comments start with `#` or `!`; a backslash at the end of a line continues it; keys end at the first `=`, `:` or
/// white space that is not escaped.
pub fn parse(text: &str) -> Vec<(String, String)> {
    logical_lines(text).iter().map(|line| entry(line)).collect()
}

/// Lines without comments and blank lines, continuations joined.
fn logical_lines(text: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut open: Option<String> = None;
    for line in text.split(['\n', '\r']) {
        let line = line.trim_start_matches([' ', '\t', '\x0c']);
        if open.is_none() && (line.is_empty() || line.starts_with(['#', '!'])) {
            continue;
        }
        let backslashes = line.len() - line.trim_end_matches('\\').len();
        let mut joined = open.take().unwrap_or_default();
        if backslashes % 2 == 1 {
            joined.push_str(&line[..line.len() - 1]);
            open = Some(joined);
        } else {
            joined.push_str(line);
            lines.push(joined);
        }
    }
    lines.extend(open);
    lines
}

fn entry(line: &str) -> (String, String) {
    let mut chars = line.chars().peekable();
    let is_blank = |c: &char| matches!(c, ' ' | '\t' | '\x0c');
    let key = unescape(&mut chars, |c| is_blank(&c) || c == '=' || c == ':');
    while chars.next_if(is_blank).is_some() {}
    if chars.next_if(|c| matches!(c, '=' | ':')).is_some() {
        while chars.next_if(is_blank).is_some() {}
    }
    let value = unescape(&mut chars, |_| false);
    (key, value)
}

/// Takes characters up to one that ends the piece, resolving escapes.
fn unescape(chars: &mut Peekable<Chars<'_>>, ends: impl Fn(char) -> bool) -> String {
    let mut piece = String::new();
    while let Some(&c) = chars.peek() {
        if ends(c) {
            break;
        }
        chars.next();
        if c != '\\' {
            piece.push(c);
            continue;
        }
        match chars.next() {
            Some('t') => piece.push('\t'),
            Some('n') => piece.push('\n'),
            Some('r') => piece.push('\r'),
            Some('f') => piece.push('\x0c'),
            Some('u') => {
                let digits: String = chars.clone().take(4).collect();
                match u32::from_str_radix(&digits, 16)
                    .ok()
                    .filter(|_| digits.len() == 4)
                    .and_then(char::from_u32)
                {
                    Some(c) => {
                        piece.push(c);
                        chars.nth(3);
                    }
                    None => piece.push('u'),
                }
            }
            Some(other) => piece.push(other),
            None => {}
        }
    }
    piece
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_read_as_java_reads_them() {
        let text = "# comment\n! another\n\n  a=1\nb : two words \nc three\r\nd\ne=\\\n   joined \\\n  up\nf\\ g=h\\=i\nk=\\u00e9\\t.\n  # last\nl==x\nm=c:\\\\dir";
        let expected = [
            ("a", "1"),
            ("b", "two words "),
            ("c", "three"),
            ("d", ""),
            ("e", "joined up"),
            ("f g", "h=i"),
            ("k", "é\t."),
            ("l", "=x"),
            ("m", "c:\\dir"),
        ];
        let entries = parse(text);
        let entries: Vec<(&str, &str)> =
            entries.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        assert_eq!(entries, expected);
    }

    #[test]
    fn odd_endings_do_not_trip_the_parser() {
        assert_eq!(parse("a=1\\"), [("a".to_owned(), "1".to_owned())]);
        assert_eq!(parse("a=\\u12"), [("a".to_owned(), "u12".to_owned())]);
        assert_eq!(parse("a=\\ud800"), [("a".to_owned(), "ud800".to_owned())]);
        assert_eq!(parse(""), []);
    }
}
