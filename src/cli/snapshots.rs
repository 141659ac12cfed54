//! `create`, `list`, `rename`, `clone`, `drop`: snapshots and clones, through the daemon; listing also without one.

use super::args::{CloneArgs, CreateArgs, DropArgs, Json, ListArgs, Method, RenameArgs};
use super::delete_order::{NO_ROOM_IN_TRASH, told_no_room};
use super::engine::{Backend, HydrateOrder, OpenFor, StoreOptions, StreamOrder};
use super::freeze_order;
use super::list_chart::{self, ChartLook};
use super::refusal::told_name;
use super::served;
use super::{
    hold_order, hooks, hydrate_order, hydration, list_rows, output, streaming, streams, usage, wire,
};
use crate::clock::Clock;
use crate::ctl::{Client, Code, Failure, MountRecord};
use crate::format::view::Consistency;
use crate::fs::{Reason, check_snapshot_name};
use crate::fuse::mounts;
use crate::names;
use crate::ops::{Error, NodeId};
use crate::sys::process;
use serde_json::{Value, json};
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

pub(super) fn written(result: Result<(), String>) -> Result<(), Failure> {
    result.map_err(|e| Failure::new(Code::Other, e))
}

pub(super) fn list(backend: &dyn Backend, args: &ListArgs) -> Result<(), Failure> {
    // All of it from one, also if that ends meanwhile.
    let client = served::if_any(served::connect(&args.target))?;
    let ask = |verb, order| served::ask_found(client.as_ref(), &args.target, verb, order);
    let arriving = ask("stream", streaming::encode(&StreamOrder::Arrivals, None));
    let asked_copies = hydrate_order::encode(&HydrateOrder::Status);
    let copying = ask("hydrate", asked_copies);
    let choice = &args.choice;
    let mut which = json!({});
    if let Some(clone) = &choice.clone {
        names::put(&mut which, "clone", clone);
    }
    if choice.wants_methods() {
        which["methods"] = true.into();
    }
    let listed = ask("list", which)?;
    let (snapshots, clones, arrivals, copies) = match (listed, ask("clones", json!({}))?, arriving) {
        (Some(snapshots), Some(clones), arriving) => {
            // A daemon of an older version knows of none.
            let arrivals = arriving.ok().flatten().unwrap_or(Value::Null);
            let copies = copying.ok().flatten().unwrap_or(Value::Null);
            (wire::decode_all(&snapshots)?, wire::decode_clones(&clones)?, arrivals, copies)
        }
        _ => {
            let look = StoreOptions { access: OpenFor::Look, ..StoreOptions::default() };
            let engine = backend.open(&args.target, &look)?;
            let mut snapshots = match &choice.clone {
                Some(clone) => engine.snapshots_of_clone(clone.as_bytes()),
                None => engine.snapshots(NodeId::ROOT),
            };
            if let Ok(all) = &mut snapshots
                && choice.wants_methods()
            {
                all.iter_mut().for_each(|s| s.method = engine.method_of(s.id));
            }
            let clones = engine.clones();
            let order = StreamOrder::Arrivals;
            let arrivals = match engine.stream(&order, &mut io::empty(), &mut io::sink(), &mut |_| true) {
                Err(f) if f.code == Code::UnknownVerb => Ok(Value::Null),
                told => told,
            };
            let copies = engine.hydrate(NodeId::ROOT, None, &HydrateOrder::Status).unwrap_or(Value::Null);
            engine.close()?;
            (snapshots?, clones?, arrivals?, copies)
        }
    };
    let json = args.json.json;
    let now = Clock::System.now();
    let snapshots = list_rows::chosen(snapshots, choice, now)?;
    if choice.strip || choice.graph {
        let look = ChartLook::of_output();
        return written(output::print(&match choice.strip {
            true => list_chart::strip(&snapshots, now.secs, look),
            false => list_chart::graph(&snapshots, look),
        }));
    }
    if args.arrivals {
        return written(match json {
            true => output::print_json(&streaming::arrivals_json(&arrivals)),
            false => output::print(&streaming::arrivals_table(&arrivals).unwrap_or_default()),
        });
    }
    let out = match args.clones {
        true if json => output::print_json(&Value::Array(clones.iter().map(output::clone_json).collect())),
        false if json => output::print_json(&list_rows::snapshots_json(&snapshots, &choice.columns)),
        true => output::print(&output::clone_table(&clones)),
        false => {
            if snapshots.is_empty() && !choice.is_of_snapshots() {
                eprintln!("no snapshots");
            }
            let mut tables = Vec::new();
            let table = || list_rows::snapshot_table(&snapshots, &choice.columns);
            tables.extend((!snapshots.is_empty()).then(table));
            if choice.is_of_snapshots() {
                return written(output::print(&tables.concat()));
            }
            tables.extend((!clones.is_empty()).then(|| output::clone_table(&clones)));
            tables.extend(streaming::arrivals_table(&arrivals));
            tables.extend(hydration::table(&copies));
            output::print(&tables.join("\n"))
        }
    };
    written(out)
}

pub(super) fn clone(args: &CloneArgs) -> Result<(), Failure> {
    let client = daemon_for_changes(&args.target)?;
    let mut request = json!({});
    names::put(&mut request, "name", &args.name);
    if let Some(from) = &args.from {
        names::put(&mut request, "from", from);
    }
    for (key, after) in [("expire", args.expire), ("idle", args.idle)] {
        if let Some(after) = after {
            request[key] = after.into();
        }
    }
    put_maker(&mut request, args.description.as_ref());
    let made = wire::decode_clone(&client.call("clone", request, &mut |_| {})?)?;
    if args.json.json { written(output::print_json(&output::clone_json(&made))) } else { Ok(()) }
}

/// Drops clones.
pub(super) fn drop_clones(args: &DropArgs) -> Result<(), Failure> {
    each((&args.target, "drop", args.now), &args.names, "dropped", &args.json)
}

/// The daemon of `target`, unless the mount that leads to it is read-only: what `mkdir` is refused there the command is, too.
pub(super) fn daemon_for_changes(target: &Path) -> Result<Client, Failure> {
    let client = served::connect(target)?;
    let MountRecord { device, mountpoint, .. } = client.record();
    let around = std::fs::canonicalize(target).ok().and_then(|real| mounts::containing(&real).ok().flatten());
    // Of a store, where its daemon has mounted it.
    let through = match around.filter(|m| m.device == *device) {
        None => mounts::at(mountpoint).ok().flatten().filter(|m| m.device == *device),
        found => found,
    };
    match through {
        Some(m) if m.read_only => {
            let what = format!("the mount at {} is read-only and takes no changes", names::shown(&m.point));
            Err(Failure::new(Code::ReadOnly, format!("{}: {what}", names::shown(target))))
        }
        _ => Ok(client),
    }
}

/// Who makes something, by which command, and what is said about it.
pub(super) fn put_maker(request: &mut Value, description: Option<&OsString>) {
    let mut command: Vec<OsString> = std::env::args_os().collect();
    if let Some(program) = command.first_mut() {
        *program = Path::new(program).file_name().unwrap_or(program).to_os_string();
    }
    names::put_list(request, "command", &command);
    request["user"] = process::effective_uid().into();
    if let Some(description) = description {
        names::put(request, "description", description);
    }
}

pub(super) fn create(backend: &dyn Backend, args: &CreateArgs) -> Result<(), Failure> {
    if args.rate.is_some() || args.wait {
        return Err(usage::wrong("--rate and --wait need --method background"));
    }
    let to = match (args.method, &args.to) {
        (Some(Method::Clone), Some(to)) => to,
        (Some(Method::Clone), None) => {
            return Err(usage::wrong("--method clone needs --to STORE2, where the copy goes"));
        }
        (_, Some(_)) => return Err(usage::wrong("--to needs --method clone or background")),
        (_, None) => return create_here(args, None, args.json.json),
    };
    create_here(args, None, false)?;
    streams::copy(backend, &args.target, &args.name, to, args.json.json).map_err(|f| {
        let (name, to) = (names::shown(&args.name), names::shown(to));
        let way = format!("snapfs send {} {name} --to {to}", names::shown(&args.target));
        Failure::new(f.code, format!("'{name}' is made, its copy in {to} is not: {f}; go on with: {way}"))
    })
}

/// Makes a snapshot, and begins a copy of it, or neither.
pub(super) fn create_here(args: &CreateArgs, copy: Option<&HydrateOrder>, json: bool) -> Result<(), Failure> {
    let client = daemon_for_changes(&args.target)?;
    let mut request = json!({});
    names::put(&mut request, "name", &args.name);
    put_maker(&mut request, args.description.as_ref());
    if let Some(method) = args.method {
        request["method"] = method.made_by().name().into();
    }
    if let Some(layout) = args.method.and_then(Method::layout) {
        request["layout"] = layout.to_string().into();
    }
    if let Some(copy) = copy {
        request["hydrate"] = hydrate_order::encode(copy);
    }
    match &args.hold {
        Some(tag) => request["hold"] = hold_order::encode_wanted(&args.held_for.wanted(tag)),
        None if args.held_for.is_some() => return Err(usage::wrong("--until and --for need --hold TAG")),
        None => {}
    }
    let verb = if args.method == Some(Method::Mirror) { "split" } else { "create" };
    if args.hooks.any() {
        check_name_ahead(&client, &args.name)?;
    }
    let mut answer = Value::Null;
    let made = hooks::around(args, &mut |reached| {
        if reached.level != Consistency::FileSystem {
            request["consistency"] = reached.level.name().into();
        }
        freeze_order::put_numbers(&mut request, reached.frosts);
        answer = client.call(verb, request.clone(), &mut |_| {})?;
        wire::decode(&answer)
    })?;
    match json {
        true if verb == "split" => written(output::print_json(&output::split_json(&made, &answer))),
        true => written(output::print_json(&output::snapshot_json(&made))),
        false => Ok(()),
    }
}

/// Fails for a name that no snapshot can have, or that one has: no hook is run for that.
fn check_name_ahead(client: &Client, name: &OsStr) -> Result<(), Failure> {
    check_snapshot_name(name.as_bytes(), Reason::User).map_err(|e| told_name(name.as_bytes(), &e))?;
    let mut request = json!({});
    names::put(&mut request, "name", name);
    match client.call("show", request, &mut |_| {}) {
        Ok(_) => Err(told_name(name.as_bytes(), &Error::Exists)),
        // Whatever else keeps it from being made is found out when it is.
        Err(_) => Ok(()),
    }
}

pub(super) fn rename(args: &RenameArgs) -> Result<(), Failure> {
    let (mut request, mut answer) = (json!({}), json!({}));
    let clone = |name: &OsString| {
        name.as_bytes().strip_prefix(b".clones/").map(|name| OsStr::from_bytes(name).to_owned())
    };
    let (verb, name, new_name) = match (clone(&args.name), clone(&args.new_name)) {
        (Some(name), Some(new_name)) => ("rename_clone", name, new_name),
        (None, None) => ("rename", args.name.clone(), args.new_name.clone()),
        _ => {
            let what = "a snapshot does not become a clone, nor a clone a snapshot: both names begin with .clones/, or none";
            return Err(Failure::new(Code::Invalid, format!("{}: {what}", names::shown(&args.name))));
        }
    };
    for (object, keys, names) in [
        (&mut request, ["name", "new_name"], [&name, &new_name]),
        (&mut answer, ["was", "name"], [&args.name, &args.new_name]),
    ] {
        names::put(object, keys[0], names[0]);
        names::put(object, keys[1], names[1]);
    }
    daemon_for_changes(&args.target)?.call(verb, request, &mut |_| {})?;
    if args.json.json { written(output::print_json(&answer)) } else { Ok(()) }
}

/// Goes on after a name that fails, and reports the first failure; each is told as it happens.
fn each(
    (target, verb, now): (&Path, &str, bool),
    all: &[OsString],
    done_key: &str,
    json: &Json,
) -> Result<(), Failure> {
    let client = daemon_for_changes(target)?;
    let (mut done, mut no_room, mut first) = (Vec::new(), Vec::new(), None);
    for name in all {
        let mut request = json!({"now": now});
        names::put(&mut request, "name", name);
        put_maker(&mut request, None);
        match client.call(verb, request, &mut |_| {}) {
            Ok(answer) => {
                done.push(name);
                if answer[NO_ROOM_IN_TRASH] == true {
                    eprintln!("snapfs: {}", told_no_room(name.as_bytes()));
                    no_room.push(name);
                }
            }
            Err(f) if first.is_none() => first = Some(f),
            Err(f) => eprintln!("snapfs: {f}"),
        }
    }
    if json.json {
        let mut answer = json!({});
        names::put_list(&mut answer, done_key, &done);
        if !no_room.is_empty() {
            names::put_list(&mut answer, NO_ROOM_IN_TRASH, &no_room);
        }
        written(output::print_json(&answer))?;
    }
    first.map_or(Ok(()), Err)
}
