//! `set`, `get`: properties of files and directories, through their extended attributes in a mount.
//!
//! Any program can do the same with the attributes; the commands say what is wrong in a sentence.

use super::args::{GetArgs, SetArgs};
use super::output;
use super::property::{Assignment, Property};
use crate::ctl::{Client, Code, Failure};
use crate::names;
use crate::sys::attribute;
use serde_json::{Value, json};
use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// Goes on after a path that fails, and reports the first failure; each is told as it happens.
fn each(
    paths: &[PathBuf],
    one: &dyn Fn(&Path) -> Result<Value, Failure>,
) -> (Vec<Value>, Result<(), Failure>) {
    let (mut done, mut first) = (Vec::new(), Ok(()));
    for path in paths {
        match one(path) {
            Ok(value) => done.push(value),
            Err(f) if first.is_ok() => first = Err(f),
            Err(f) => eprintln!("snapfs: {f}"),
        }
    }
    (done, first)
}

pub(super) fn set(args: &SetArgs) -> Result<(), Failure> {
    let Assignment { property, value } = &args.assignment;
    let (done, first) = each(&args.paths, &|path| {
        look(path, *property)?;
        let (at, name, value) = (path.to_path_buf(), property.attribute(), value.clone());
        Client::patiently(path, move || attribute::set(&at, &name, value.as_bytes()))?
            .map_err(|e| refused(path, &e))?;
        look(path, *property)
    });
    if args.json.json {
        output::print_json(&Value::Array(done)).map_err(|e| Failure::new(Code::Other, e))?;
    }
    first
}

pub(super) fn get(args: &GetArgs) -> Result<(), Failure> {
    let (done, first) = each(&args.paths, &|path| look(path, args.property));
    let shown = if args.json.json {
        output::print_json(&Value::Array(done))
    } else if done.is_empty() {
        Ok(())
    } else {
        let columns = ["path", "property", "value", "source"];
        let text = |v: &Value, column: &str| {
            names::shown(OsString::from_vec(names::get(v, column).unwrap_or_default()))
        };
        let rows: Vec<Vec<String>> =
            done.iter().map(|v| columns.map(|column| text(v, column)).to_vec()).collect();
        output::print(&output::table(&["PATH", "PROPERTY", "VALUE", "SOURCE"], &rows, &[]))
    };
    shown.map_err(|e| Failure::new(Code::Other, e))?;
    first
}

/// A property of a path, as JSON.
fn look(path: &Path, property: Property) -> Result<Value, Failure> {
    let read = |name: &str| {
        let (at, name) = (path.to_path_buf(), name.to_string());
        let value = Client::patiently(path, move || attribute::get(&at, &name))?;
        let value = value.map_err(|e| refused(path, &e))?;
        let value = value.ok_or_else(|| {
            let shown = names::shown(path);
            match Client::connect(path) {
                Ok(client) => {
                    let root = names::shown(&client.record().mountpoint);
                    let what = match property {
                        Property::Timeout => format!(
                            "timeout is of a store that has two sides: give its root ({root}), see 'snapfs mirror status'"
                        ),
                        _ => format!("{} is of a whole tree: give its root ({root})", property.name()),
                    };
                    Failure::new(Code::Invalid, format!("{shown}: {what}"))
                }
                Err(_) => {
                    let what = format!("{shown}: this is no file or directory in a mount of snapfs");
                    Failure::new(Code::NotMounted, what)
                }
            }
        })?;
        Ok(names::shown_bytes(&value))
    };
    let source: String = read(&format!("{}.source", property.attribute()))?;
    let value: String = read(&property.attribute())?;
    let mut object = json!({"property": property.name(), "value": value, "source": source});
    names::put(&mut object, "path", path);
    Ok(object)
}

fn refused(path: &Path, e: &io::Error) -> Failure {
    let (code, what) = match e.kind() {
        io::ErrorKind::PermissionDenied => (Code::Denied, "its owner alone may set it".to_string()),
        io::ErrorKind::ReadOnlyFilesystem => {
            (Code::ReadOnly, "it is in a snapshot, or the mount is read-only".to_string())
        }
        io::ErrorKind::NotFound => (Code::NotFound, "there is no such file or directory".to_string()),
        io::ErrorKind::StorageFull => (Code::NoSpace, "the store is full".to_string()),
        _ => (Code::Io, e.to_string()),
    };
    Failure::new(code, format!("{}: {what}", names::shown(path)))
}
