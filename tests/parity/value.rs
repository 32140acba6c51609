//! An answer as a tree, read back from its `Debug` form: so that answers of all APIs can be compared by one piece of
//! code, field by field.

use std::iter::Peekable;
use std::str::Chars;

use bytes::Bytes;
use oncelog_records::BatchView;

/// A part of an answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A struct: its name, and its fields by name.
    Struct(String, Vec<(String, Value)>),
    /// A tuple struct, such as `Offset(3)`.
    Tuple(String, Vec<Value>),
    /// An array.
    List(Vec<Value>),
    /// A string.
    Text(String),
    /// A number, a boolean, a variant without fields, or null.
    Atom(String),
}

impl Value {
    /// Reads a value from what `{:?}` printed.
    pub fn of(debugged: &impl std::fmt::Debug) -> Value {
        let text = format!("{debugged:?}");
        let mut chars = text.chars().peekable();
        let value = read(&mut chars);
        assert_eq!(chars.next(), None, "this was not read to its end: {text}");
        value
    }

    /// The field of that name.
    pub fn field(&self, name: &str) -> Option<&Value> {
        match self {
            Value::Struct(_, fields) => {
                fields.iter().find(|(field, _)| field == name).map(|(_, value)| value)
            }
            _ => None,
        }
    }

    /// Whether one of these atoms or strings is anywhere in it.
    pub fn mentions(&self, words: &[&str]) -> bool {
        match self {
            Value::Struct(_, fields) => fields.iter().any(|(_, value)| value.mentions(words)),
            Value::Tuple(_, values) | Value::List(values) => values.iter().any(|value| value.mentions(words)),
            Value::Atom(text) | Value::Text(text) => words.contains(&text.as_str()),
        }
    }
}

impl std::fmt::Display for Value {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Value::Atom(atom) => f.write_str(atom),
            Value::Text(text) => write!(f, "{text:?}"),
            Value::Tuple(_, values) if values.len() == 1 => values[0].fmt(f),
            Value::Tuple(_, values) | Value::List(values) => {
                let values: Vec<_> = values.iter().map(Value::to_string).collect();
                write!(f, "[{}]", values.join(", "))
            }
            Value::Struct(_, fields) => {
                let fields: Vec<_> = fields.iter().map(|(name, value)| format!("{name}: {value}")).collect();
                write!(f, "{{{}}}", fields.join(", "))
            }
        }
    }
}

fn read(chars: &mut Peekable<Chars<'_>>) -> Value {
    match *chars.peek().expect("a value begins") {
        '[' => Value::List(read_until(chars, ']')),
        '"' => Value::Text(read_text(chars)),
        _ => {
            let word = read_word(chars);
            match chars.peek().copied() {
                Some('"') if word == "b" => Value::Text(read_text(chars)),
                Some('(') => of_tuple(word, read_until(chars, ')')),
                Some(' ') if chars.clone().nth(1) == Some('{') => {
                    chars.next();
                    Value::Struct(word, read_fields(chars))
                }
                _ => Value::Atom(word),
            }
        }
    }
}

/// An option is as good as what is in it, and batches are opened.
fn of_tuple(name: String, mut values: Vec<Value>) -> Value {
    match (name.as_str(), values.as_slice()) {
        ("Some", [_]) => values.remove(0),
        ("Bytes", [Value::Text(bytes)]) => batches(bytes.chars().map(|c| c as u8).collect()),
        _ => Value::Tuple(name, values),
    }
}

fn read_word(chars: &mut Peekable<Chars<'_>>) -> String {
    let mut word = String::new();
    while let Some(c) = chars.next_if(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '+')) {
        word.push(c);
    }
    word
}

fn skip(chars: &mut Peekable<Chars<'_>>, what: &str) {
    while chars.next_if(|c| what.contains(*c)).is_some() {}
}

fn read_until(chars: &mut Peekable<Chars<'_>>, end: char) -> Vec<Value> {
    chars.next();
    let mut values = Vec::new();
    loop {
        skip(chars, ", ");
        if chars.next_if_eq(&end).is_some() {
            return values;
        }
        values.push(read(chars));
    }
}

fn read_fields(chars: &mut Peekable<Chars<'_>>) -> Vec<(String, Value)> {
    chars.next();
    let mut fields = Vec::new();
    loop {
        skip(chars, ", ");
        if chars.next_if_eq(&'}').is_some() {
            return fields;
        }
        let name = read_word(chars);
        skip(chars, ": ");
        fields.push((name, read(chars)));
    }
}

/// A string, or bytes, each of which becomes the character of its value.
fn read_text(chars: &mut Peekable<Chars<'_>>) -> String {
    chars.next();
    let mut text = String::new();
    while let Some(c) = chars.next() {
        match c {
            '"' => return text,
            '\\' => match chars.next().expect("an escape goes on") {
                'n' => text.push('\n'),
                'r' => text.push('\r'),
                't' => text.push('\t'),
                '0' => text.push('\0'),
                'x' => text.extend(hex(chars.take(2).collect())),
                'u' => {
                    chars.next();
                    text.extend(hex(chars.take_while(|c| *c != '}').collect()));
                }
                other => text.push(other),
            },
            c => text.push(c),
        }
    }
    text
}

fn hex(digits: String) -> Option<char> {
    u32::from_str_radix(&digits, 16).ok().and_then(char::from_u32)
}

/// Record batches, as what they say. All of it but their CRC, which must be right and is not the same where a producer id
/// or a time is not.
fn batches(bytes: Vec<u8>) -> Value {
    let all = Bytes::from(bytes);
    let mut rest = &all[..];
    let mut values = Vec::new();
    while !rest.is_empty() {
        let Ok(batch) = BatchView::parse(rest) else {
            values.push(Value::Atom(format!("{}_bytes_that_are_no_batch", rest.len())));
            break;
        };
        rest = &rest[batch.bytes().len()..];
        values.push(batch_value(&batch));
    }
    Value::List(values)
}

fn batch_value(batch: &BatchView<'_>) -> Value {
    let mut records = Vec::new();
    let mut reader = batch.records();
    while let Ok(all) = &mut reader {
        let Ok(Some(record)) = all.next_record() else { break };
        let text = |bytes: Option<&[u8]>| match bytes {
            Some(bytes) => Value::Text(bytes.iter().map(|&byte| char::from(byte)).collect()),
            None => Value::Atom("None".into()),
        };
        let headers = record.headers().map(|(name, value)| Value::List(vec![text(Some(name)), text(value)]));
        records.push(Value::Struct(
            "Record".into(),
            vec![
                ("offset".into(), Value::of(&record.offset)),
                ("timestamp".into(), Value::of(&record.timestamp)),
                ("key".into(), text(record.key)),
                ("value".into(), text(record.value)),
                ("headers".into(), Value::List(headers.collect())),
            ],
        ));
    }
    let fields = [
        ("base_offset", Value::of(&batch.base_offset())),
        ("partition_leader_epoch", Value::of(&batch.partition_leader_epoch())),
        ("is_crc_valid", Value::of(&batch.is_crc_valid())),
        ("compression", Value::of(&batch.compression())),
        ("timestamp_type", Value::of(&batch.timestamp_type())),
        ("is_transactional", Value::of(&batch.is_transactional())),
        ("is_control", Value::of(&batch.is_control())),
        ("last_offset_delta", Value::of(&batch.last_offset_delta())),
        ("base_timestamp", Value::of(&batch.base_timestamp())),
        ("max_timestamp", Value::of(&batch.max_timestamp())),
        ("producer_id", Value::of(&batch.producer_id())),
        ("producer_epoch", Value::of(&batch.producer_epoch())),
        ("base_sequence", Value::of(&batch.base_sequence())),
        ("record_count", Value::of(&batch.record_count())),
        ("records", Value::List(records)),
    ];
    Value::Struct("Batch".into(), fields.map(|(name, value)| (name.to_owned(), value)).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_debug_prints_reads_back() {
        #[derive(Debug)]
        #[allow(dead_code)]
        struct All {
            text: Option<&'static str>,
            none: Option<i32>,
            list: Vec<std::num::Wrapping<i64>>,
            bytes: Bytes,
            empty: [i32; 0],
        }
        let all = All {
            text: Some("a \"b\", {c}\u{7f}"),
            none: None,
            list: vec![std::num::Wrapping(-1)],
            bytes: Bytes::from_static(b"\x00\xff\"x"),
            empty: [],
        };
        let expected =
            "{text: \"a \\\"b\\\", {c}\\u{7f}\", none: None, list: [-1], bytes: \"\\0ÿ\\\"x\", empty: []}";
        assert_eq!(Value::of(&all).to_string(), expected);
    }
}
