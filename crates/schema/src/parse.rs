//! From the text of one file to a [`File`]. The notation is described in `protocol/README.md`.

use std::path::Path;

use crate::Error;
use crate::model::{Api, Field, File, Kind, Literal, Role, Struct, Versions};

/// Parses the text of the file at `path`; `module` is its name without the ending.
pub fn file(path: &Path, module: &str, internal: bool, text: &str) -> Result<File, Error> {
    let lines = lines(path, text)?;
    let mut file = File {
        path: path.into(),
        module: module.into(),
        internal,
        notes: Vec::new(),
        api: None,
        structs: Vec::new(),
    };
    let mut parser = Parser { path, lines: &lines, at: 0, group: None };
    while let Some(line) = parser.next() {
        parser.block(line, &mut file)?;
    }
    Ok(file)
}

/// One line that says something, with the comments that belong to it.
struct Line<'a> {
    number: usize,
    indent: usize,
    words: Vec<&'a str>,
    notes: Vec<String>,
}

fn lines<'a>(path: &Path, text: &'a str) -> Result<Vec<Line<'a>>, Error> {
    let mut lines = Vec::new();
    let mut notes = Vec::new();
    for (at, raw) in text.lines().enumerate() {
        let number = at + 1;
        if raw.contains('\t') {
            return Err(Error::new(path, number, "a tab; indent with spaces"));
        }
        let (code, note) = match raw.split_once('#') {
            Some((code, note)) => (code, Some(note.trim().to_owned())),
            None => (raw, None),
        };
        notes.extend(note);
        let words: Vec<&str> = code.split_whitespace().collect();
        if words.is_empty() {
            continue;
        }
        let indent = code.len() - code.trim_start().len();
        lines.push(Line { number, indent, words, notes: std::mem::take(&mut notes) });
    }
    Ok(lines)
}

/// What holds for the blocks that follow, until the next `api` or `record`.
#[derive(Clone, Copy)]
struct Group {
    versions: Versions,
    flexible_from: Option<i16>,
}

struct Parser<'a> {
    path: &'a Path,
    lines: &'a [Line<'a>],
    at: usize,
    group: Option<Group>,
}

impl<'a> Parser<'a> {
    fn next(&mut self) -> Option<&'a Line<'a>> {
        let line = self.lines.get(self.at)?;
        self.at += 1;
        Some(line)
    }

    fn error(&self, line: &Line<'_>, message: impl Into<String>) -> Error {
        Error::new(self.path, line.number, message)
    }

    fn block(&mut self, line: &'a Line<'a>, file: &mut File) -> Result<(), Error> {
        if line.indent != 0 {
            return Err(self.error(line, "a field outside a block"));
        }
        let (&keyword, rest) = line.words.split_first().expect("a line has a word");
        match keyword {
            "api" => {
                let api = self.api(line, rest)?;
                let last = api.unstable.unwrap_or(api.versions.last);
                let versions = Versions { last, ..api.versions };
                self.group = Some(Group { versions, flexible_from: api.flexible_from });
                file.notes = line.notes.clone();
                if file.api.replace(api).is_some() {
                    return Err(self.error(line, "a second api in one file"));
                }
                Ok(())
            }
            "request" => self.body(line, "Request", Role::Request, file),
            "response" => self.body(line, "Response", Role::Response, file),
            "struct" => match rest {
                [name] => self.body(line, name, Role::Part, file),
                _ => Err(self.error(line, "write: struct Name")),
            },
            "record" => {
                let (&name, mut words) =
                    rest.split_first().ok_or_else(|| self.error(line, "the record has no name"))?;
                let number = self.attribute(line, &mut words, "type")?;
                let number = number.map(|word| self.number(line, word)).transpose()?;
                let (versions, flexible_from) = self.versions_and_flexible(line, &mut words)?;
                self.nothing_left(line, words)?;
                self.group = Some(Group { versions, flexible_from });
                let is_first = file.structs.is_empty();
                self.body(line, name, Role::Record(number), file)?;
                if is_first {
                    file.notes = std::mem::take(&mut file.structs[0].notes);
                }
                Ok(())
            }
            other => {
                let expected = "expected api, request, response, record or struct";
                Err(self.error(line, format!("{expected}, found {other:?}")))
            }
        }
    }

    fn api(&self, line: &Line<'_>, rest: &[&str]) -> Result<Api, Error> {
        let (&name, mut words) = rest.split_first().ok_or_else(|| self.error(line, "the api has no name"))?;
        let key = self.attribute(line, &mut words, "key")?;
        let key = key.ok_or_else(|| self.error(line, "the api has no key"))?;
        let key = self.number(line, key)?;
        let versions = self.required_versions(line, &mut words)?;
        let unstable = self.attribute(line, &mut words, "unstable")?;
        let unstable = unstable.map(|word| self.number(line, word)).transpose()?;
        let flexible_from = self.flexible(line, &mut words)?;
        self.nothing_left(line, words)?;
        Ok(Api { name: name.into(), key, versions, unstable, flexible_from, line: line.number })
    }

    fn body(&mut self, line: &Line<'_>, name: &str, role: Role, file: &mut File) -> Result<(), Error> {
        let group = self.group.ok_or_else(|| self.error(line, "an api or record line must come first"))?;
        let slot = file.structs.len();
        let mut parts = Vec::new();
        let fields = self.fields(2, group, group.versions, &mut parts)?;
        let Group { versions, flexible_from } = group;
        let (notes, line) = (line.notes.clone(), line.number);
        file.structs
            .insert(slot, Struct { name: name.into(), role, versions, flexible_from, notes, fields, line });
        file.structs.extend(parts);
        Ok(())
    }

    /// The lines at `indent`; deeper ones make a struct of the field above them.
    fn fields(
        &mut self,
        indent: usize,
        group: Group,
        versions: Versions,
        parts: &mut Vec<Struct>,
    ) -> Result<Vec<Field>, Error> {
        let mut fields: Vec<Field> = Vec::new();
        while let Some(line) = self.lines.get(self.at).filter(|line| line.indent >= indent) {
            if line.indent == indent {
                self.at += 1;
                fields.push(self.field(line, versions)?);
                continue;
            }
            let parent = fields.last().filter(|_| line.indent == indent + 2);
            let parent =
                parent.ok_or_else(|| self.error(line, "indented too far; use two spaces a level"))?;
            let Kind::Struct(name) = parent.kind.clone() else {
                return Err(self.error(line, format!("{} is no struct and has no fields", parent.name)));
            };
            let (versions, flexible_from) = (parent.versions, group.flexible_from);
            let slot = parts.len();
            let number = parent.line;
            let fields = self.fields(indent + 2, group, versions, parts)?;
            let (role, notes) = (Role::Part, Vec::new());
            parts.insert(slot, Struct { name, role, versions, flexible_from, notes, fields, line: number });
        }
        Ok(fields)
    }

    fn field(&self, line: &Line<'_>, all: Versions) -> Result<Field, Error> {
        let [name, kind, ..] = line.words[..] else {
            return Err(self.error(line, "a field needs a name and a type"));
        };
        let mut words = &line.words[2..];
        let versions = match words.first() {
            Some(&word) if word != "tag" && word != "=" => {
                words = &words[1..];
                self.versions(line, word, all.last)?
            }
            _ => all,
        };
        let tag = self.attribute(line, &mut words, "tag")?;
        let tag = tag.map(|word| self.number(line, word)).transpose()?;
        let default = self.attribute(line, &mut words, "=")?;
        let default = default.map(|word| self.literal(line, word)).transpose()?;
        self.nothing_left(line, words)?;

        let (is_array, kind) = match kind.strip_prefix("[]") {
            Some(element) => (true, element),
            None => (false, kind),
        };
        let (word, nullable) = match kind.split_once('?') {
            Some((word, "")) => (word, Some(versions)),
            Some((word, range)) => (word, Some(self.versions(line, range, versions.last)?)),
            None => (kind, None),
        };
        let kind = Kind::from_word(word).ok_or_else(|| self.error(line, format!("{word:?} is no type")))?;
        let (name, notes, line) = (name.into(), line.notes.clone(), line.number);
        Ok(Field { name, kind, is_array, nullable, versions, tag, default, notes, line })
    }

    fn literal(&self, line: &Line<'_>, word: &str) -> Result<Literal, Error> {
        match word {
            "null" => Ok(Literal::Null),
            "true" => Ok(Literal::True),
            _ => self.number(line, word).map(Literal::Number),
        }
    }

    fn versions_and_flexible(
        &self,
        line: &Line<'_>,
        words: &mut &[&str],
    ) -> Result<(Versions, Option<i16>), Error> {
        Ok((self.required_versions(line, words)?, self.flexible(line, words)?))
    }

    fn required_versions(&self, line: &Line<'_>, words: &mut &[&str]) -> Result<Versions, Error> {
        let word = self.attribute(line, words, "versions")?;
        let word = word.ok_or_else(|| self.error(line, "it has no versions"))?;
        if word.ends_with('+') {
            return Err(self.error(line, "say the last version here"));
        }
        self.versions(line, word, i16::MAX)
    }

    fn flexible(&self, line: &Line<'_>, words: &mut &[&str]) -> Result<Option<i16>, Error> {
        let Some(word) = self.attribute(line, words, "flexible")? else { return Ok(None) };
        let first = word.strip_suffix('+').ok_or_else(|| self.error(line, "write: flexible 9+"))?;
        self.number(line, first).map(Some)
    }

    /// `3`, `3-5` or `3+`, which runs to `last`.
    fn versions(&self, line: &Line<'_>, word: &str, last: i16) -> Result<Versions, Error> {
        if let Some(first) = word.strip_suffix('+') {
            return Ok(Versions { first: self.number(line, first)?, last });
        }
        let (first, last) = word.split_once('-').unwrap_or((word, word));
        Ok(Versions { first: self.number(line, first)?, last: self.number(line, last)? })
    }

    /// Takes `name value` off the front of `words`, where they begin with `name`.
    fn attribute<'w>(
        &self,
        line: &Line<'_>,
        words: &mut &[&'w str],
        name: &str,
    ) -> Result<Option<&'w str>, Error> {
        match **words {
            [first, value, ..] if first == name => {
                *words = &words[2..];
                Ok(Some(value))
            }
            [first] if first == name => Err(self.error(line, format!("{name} of what?"))),
            _ => Ok(None),
        }
    }

    fn number<N: std::str::FromStr>(&self, line: &Line<'_>, word: &str) -> Result<N, Error> {
        word.parse().map_err(|_| self.error(line, format!("{word:?} is no number that fits here")))
    }

    fn nothing_left(&self, line: &Line<'_>, words: &[&str]) -> Result<(), Error> {
        match words.first() {
            Some(word) => Err(self.error(line, format!("{word:?} is not expected here"))),
            None => Ok(()),
        }
    }
}
