//! `set`, `get`: properties of files and directories, through their extended attributes in a mount.
//!
//! Any program can do the same with the attributes; the commands say what is wrong in a sentence.

use super::args::{GetArgs, SetArgs};
use super::output;
use super::property::{Assignment, Property};
use super::snapshots::daemon_for_changes;
use crate::ctl::{Client, Code, Failure};
use crate::fs::SNAPDIR_NAME;
use crate::names;
use crate::sys::attribute;
use serde_json::{Value, json};
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
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
        if *property == Property::Description {
            return describe(path, value);
        }
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

/// Says something about the snapshot at this path. That is done by its line, since nothing changes in a snapshot.
fn describe(path: &Path, text: &OsStr) -> Result<Value, Failure> {
    let (line, name) = snapshot_at(path)?;
    let mut request = json!({});
    names::put(&mut request, "name", &name);
    names::put(&mut request, "description", text);
    daemon_for_changes(&line)?.call("describe", request, &mut |_| {})?;
    look_at_description(path)
}

/// The directory whose past has the snapshot at this path, and how it is called there.
fn snapshot_at(path: &Path) -> Result<(PathBuf, OsString), Failure> {
    let whole = std::path::absolute(path).map_err(|e| refused(path, &e))?;
    let (name, snapdir) = (whole.file_name(), whole.parent());
    let is_snapdir = snapdir.and_then(Path::file_name) == Some(OsStr::from_bytes(SNAPDIR_NAME));
    match (name, snapdir.and_then(Path::parent).filter(|_| is_snapdir)) {
        (Some(name), Some(line)) => Ok((line.to_path_buf(), name.to_os_string())),
        _ => {
            let what = "a description is of a snapshot: give MNT/.snapshots/NAME (of a clone it is said when that is made)";
            Err(Failure::new(Code::Invalid, format!("{}: {what}", names::shown(path))))
        }
    }
}

fn look_at_description(path: &Path) -> Result<Value, Failure> {
    snapshot_at(path)?;
    let read = |name: &str| {
        let (at, name) = (path.to_path_buf(), name.to_string());
        Client::patiently(path, move || attribute::get(&at, &name))?.map_err(|e| refused(path, &e))
    };
    let Some(_) = read("user.snapfs.id")? else {
        let what = "this is no snapshot in a mount of snapfs";
        return Err(Failure::new(Code::Invalid, format!("{}: {what}", names::shown(path))));
    };
    let value = read(&Property::Description.attribute())?;
    let mut object = json!({"property": Property::Description.name()});
    object["source"] = if value.is_some() { "local" } else { "default" }.into();
    names::put(&mut object, "value", OsStr::from_bytes(&value.unwrap_or_default()));
    names::put(&mut object, "path", path);
    Ok(object)
}

/// A property of a path, as JSON.
fn look(path: &Path, property: Property) -> Result<Value, Failure> {
    if property == Property::Description {
        return look_at_description(path);
    }
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
