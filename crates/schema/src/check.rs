//! What must hold beyond the notation, so that the emitted code compiles and means what the file says.

use std::collections::{HashMap, HashSet};

use crate::Error;
use crate::model::{Field, File, Kind, Literal, Protocol, Role, Struct};

/// Checks every file, and that no two APIs share a key.
pub fn protocol(protocol: &Protocol) -> Result<(), Error> {
    let mut keys = HashMap::new();
    for file in &protocol.files {
        check_file(file)?;
        if let Some(api) = &file.api
            && let Some(other) = keys.insert(api.key, &api.name)
        {
            return Err(Error::new(&file.path, api.line, format!("key {} is taken by {other}", api.key)));
        }
    }
    Ok(())
}

fn check_file(file: &File) -> Result<(), Error> {
    let fail = |line: usize, message: String| Err(Error::new(&file.path, line, message));
    match &file.api {
        _ if file.structs.is_empty() => return fail(1, "the file defines nothing".into()),
        Some(api) => {
            if snake_case(&api.name) != file.module {
                return fail(api.line, format!("{} belongs in {}.api", api.name, snake_case(&api.name)));
            }
            if file.internal {
                return fail(api.line, "an api among the internal records".into());
            }
            if api.unstable.is_some_and(|unstable| unstable != api.versions.last + 1) {
                return fail(api.line, "the unstable version is the one after the last stable one".into());
            }
            for role in [Role::Request, Role::Response] {
                if !file.structs.iter().any(|s| s.role == role) {
                    return fail(api.line, format!("there is no {role:?}").to_lowercase());
                }
            }
        }
        None if !file.internal => return fail(1, "the file defines no api".into()),
        None => {}
    }
    let mut names = HashSet::new();
    for of in &file.structs {
        if !names.insert(&of.name) {
            return fail(of.line, format!("a second {}", of.name));
        }
        check_struct(file, of)?;
    }
    for of in file.structs.iter().filter(|of| of.role == Role::Part) {
        let is_used = file.structs.iter().flat_map(|user| &user.fields).any(|field| uses(field, &of.name));
        if !is_used {
            return fail(of.line, format!("nothing uses {}", of.name));
        }
        if reaches(file, of, &of.name, file.structs.len()) {
            return fail(of.line, format!("{} contains itself", of.name));
        }
    }
    Ok(())
}

fn uses(field: &Field, name: &str) -> bool {
    matches!(&field.kind, Kind::Struct(used) if used == name)
}

/// Whether following the struct types of `from` leads to `name`.
fn reaches(file: &File, from: &Struct, name: &str, depth: usize) -> bool {
    from.fields.iter().any(|field| {
        let Kind::Struct(next) = &field.kind else { return false };
        next == name
            || (depth > 0 && file.find(next).is_some_and(|next| reaches(file, next, name, depth - 1)))
    })
}

fn check_struct(file: &File, of: &Struct) -> Result<(), Error> {
    if of.versions.first > of.versions.last || of.versions.first < 0 {
        return Err(Error::new(&file.path, of.line, format!("versions {} are no range", of.versions)));
    }
    let mut names = HashSet::new();
    let mut tags = HashSet::new();
    for field in &of.fields {
        if !names.insert(&field.name) {
            return Err(Error::new(&file.path, field.line, format!("a second field {}", field.name)));
        }
        if field.tag.is_some_and(|tag| !tags.insert(tag)) {
            return Err(Error::new(&file.path, field.line, "the tag is taken"));
        }
        check_field(file, of, field).map_err(|message| Error::new(&file.path, field.line, message))?;
    }
    Ok(())
}

fn check_field(file: &File, of: &Struct, field: &Field) -> Result<(), String> {
    let Field { name, kind, versions, .. } = field;
    if snake_case(name) != *name {
        return Err(format!("{name} is not in snake case"));
    }
    if versions.first > versions.last || !of.versions.covers(*versions) {
        return Err(format!("versions {versions} of {name} are not within {}", of.versions));
    }
    if let Kind::Struct(used) = kind {
        let part = file.find(used).ok_or_else(|| format!("there is no struct {used}"))?;
        if part.role != Role::Part || !part.versions.covers(*versions) {
            return Err(format!("{used} does not exist in versions {versions}"));
        }
    }
    if let Some(nullable) = field.nullable {
        if kind.fixed_size().is_some() && !field.is_array {
            return Err(format!("{name} is of a type that cannot be null"));
        }
        if !versions.covers(nullable) {
            return Err(format!("{name} is null in versions it does not exist in"));
        }
    }
    if field.tag.is_some() && *kind == Kind::Records {
        return Err(format!("{name} has record batches in a tagged field"));
    }
    if field.tag.is_some() && !of.is_flexible(versions.first) {
        return Err(format!("{name} is tagged in versions that are not flexible"));
    }
    match field.default {
        Some(Literal::Null) if field.nullable.is_none() => Err(format!("{name} cannot be null")),
        Some(Literal::True) if *kind != Kind::Bool || field.is_array => Err(format!("{name} is no bool")),
        Some(Literal::Number(number)) => match kind.number_range().filter(|_| !field.is_array) {
            Some((least, greatest)) if (least..=greatest).contains(&number) => Ok(()),
            _ => Err(format!("{number} is no default for {name}")),
        },
        _ => Ok(()),
    }
}

/// `InitProducerId` as `init_producer_id`.
fn snake_case(name: &str) -> String {
    let mut snake = String::new();
    for character in name.chars() {
        if character.is_ascii_uppercase() && !snake.is_empty() {
            snake.push('_');
        }
        snake.push(character.to_ascii_lowercase());
    }
    snake
}
