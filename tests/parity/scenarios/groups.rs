//! Classic groups: members come, agree, stay and go.

use bytes::Bytes;
use oncelog_wire::{
    Str, delete_groups, describe_groups, heartbeat, join_group, leave_group, list_groups, sync_group,
};

use crate::pair::{Both, Pair};

/// JoinGroup of a consumer that knows two assignors.
pub fn join_request(group: &str, member_id: &str, instance: Option<&str>) -> join_group::Request {
    let protocol = |name: &str| join_group::JoinGroupRequestProtocol {
        name: name.into(),
        metadata: Bytes::from_static(b"\0\0\0\0\0\0\0\0\0\0"),
    };
    join_group::Request {
        group_id: group.into(),
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 5_000,
        member_id: member_id.into(),
        group_instance_id: instance.map(Str::from),
        protocol_type: "consumer".into(),
        protocols: vec![protocol("range"), protocol("sticky")],
        ..Default::default()
    }
}

/// SyncGroup, with assignments if it is the leader's.
pub fn sync_request(
    group: &str,
    member_id: &str,
    generation_id: i32,
    assigned: &[&str],
) -> sync_group::Request {
    let assignments = assigned.iter().map(|member| sync_group::SyncGroupRequestAssignment {
        member_id: (*member).into(),
        assignment: Bytes::from_static(b"assigned"),
    });
    sync_group::Request {
        group_id: group.into(),
        generation_id,
        member_id: member_id.into(),
        protocol_type: Some("consumer".into()),
        protocol_name: Some("range".into()),
        assignments: assignments.collect(),
        ..Default::default()
    }
}

/// Heartbeat.
pub fn heartbeat_request(group: &str, member_id: &str, generation_id: i32) -> heartbeat::Request {
    heartbeat::Request {
        group_id: group.into(),
        generation_id,
        member_id: member_id.into(),
        group_instance_id: None,
    }
}

/// A group of one, stable; its member id.
pub fn stable_group(pair: &mut Pair, group: &str, version: i16, instance: Option<&str>) -> Both<Str> {
    let first = pair
        .ask("joins", version, |_| join_request(group, "", instance))
        .map(|answer| answer.member_id.clone());
    let member = if version >= 4 && instance.is_none() {
        pair.ask("joins with its id", version, |side| join_request(group, &first[side], instance))
            .map(|answer| answer.member_id.clone())
    } else {
        first
    };
    pair.ask("syncs", 3, |side| sync_request(group, &member[side], 1, &[&member[side]]));
    member
}

/// By every version of JoinGroup: one member, then a second, then none.
pub fn members(pair: &mut Pair) {
    for version in 0..=9 {
        let group = pair.name(&format!("members-{version}"));
        let (sync, beat, leave) = (version.min(5), version.min(4), version.min(5));
        let a = stable_group(pair, &group, version, None);
        pair.ask("beats", beat, |side| heartbeat_request(&group, &a[side], 1));
        pair.ask("follower that rejoins", version, |side| join_request(&group, &a[side], None));
        pair.ask("beats after rejoin", beat, |side| heartbeat_request(&group, &a[side], 1));
        pair.ask("syncs again", sync, |side| sync_request(&group, &a[side], 2, &[&a[side]]));
        let mut second = pair.another_called("second");
        let b = if version >= 4 {
            second
                .ask("second asks for an id", version, |_| join_request(&group, "", None))
                .map(|answer| answer.member_id.clone())
        } else {
            Both::of(|_| Str::EMPTY)
        };
        let joining = second.send("second joins", version, |side| join_request(&group, &b[side], None));
        pair.ask_unless(&["None"], "first is told", 3, |side| heartbeat_request(&group, &a[side], 2));
        pair.ask("sync is too early", sync, |side| sync_request(&group, &a[side], 2, &[]));
        pair.ask("first rejoins", version, |side| join_request(&group, &a[side], None));
        let b = second.receive(joining).map(|answer| answer.member_id.clone());
        let syncing = second.send("second syncs", sync, |side| sync_request(&group, &b[side], 3, &[]));
        pair.ask("beats meanwhile", beat, |side| heartbeat_request(&group, &a[side], 3));
        pair.ask("leader syncs", sync, |side| sync_request(&group, &a[side], 3, &[&a[side], &b[side]]));
        second.receive(syncing);
        pair.ask("described", 6, |_| describe_groups::Request {
            groups: vec![group.as_str().into()],
            include_authorized_operations: true,
        });
        second.ask("second rejoins unchanged", version, |side| join_request(&group, &b[side], None));
        let leave_request = |member: &Str| leave_group::Request {
            group_id: group.as_str().into(),
            member_id: member.clone(),
            members: vec![leave_group::MemberIdentity {
                member_id: member.clone(),
                reason: Some("done".into()),
                ..Default::default()
            }],
        };
        second.ask("second leaves", leave, |side| leave_request(&b[side]));
        second.ask("second leaves again", leave, |side| leave_request(&b[side]));
        pair.ask("first is told of it", beat, |side| heartbeat_request(&group, &a[side], 3));
        pair.ask("first rejoins alone", version, |side| join_request(&group, &a[side], None));
        pair.ask("first leaves", leave, |side| leave_request(&a[side]));
        pair.ask("beats after it left", beat, |side| heartbeat_request(&group, &a[side], 4));
        pair.ask("described empty", 5, |_| describe_groups::Request {
            groups: vec![group.as_str().into()],
            ..Default::default()
        });
    }
}

/// Unknown groups and members, generations, timeouts, protocols.
pub fn errors(pair: &mut Pair) {
    let group = pair.name("group-errors");
    for (what, id) in [("no group", ""), ("an unknown group", "unknown-group")] {
        pair.ask_all(&format!("join with member id, {what}"), |_| join_request(id, "somebody", None));
        pair.ask_all(&format!("sync, {what}"), |_| sync_request(id, "somebody", 1, &[]));
        pair.ask_all(&format!("heartbeat, {what}"), |_| heartbeat_request(id, "somebody", 1));
        pair.ask_all(&format!("leave, {what}"), |_| leave_group::Request {
            group_id: id.into(),
            member_id: "somebody".into(),
            members: vec![leave_group::MemberIdentity { member_id: "somebody".into(), ..Default::default() }],
        });
    }
    pair.ask_all("join, no group", |_| join_request("", "", None));
    for timeout in [-1, 0, 5_999, 1_800_001, i32::MAX] {
        pair.ask_all(&format!("session timeout {timeout}"), |_| join_group::Request {
            session_timeout_ms: timeout,
            ..join_request(&group, "", None)
        });
    }
    pair.ask_all("no protocols", |_| join_group::Request {
        protocols: vec![],
        ..join_request(&group, "", None)
    });
    pair.ask_all("no protocol type", |_| join_group::Request {
        protocol_type: Str::EMPTY,
        ..join_request(&group, "", None)
    });
    let member = stable_group(pair, &group, 5, None);
    pair.ask_all("another type", |_| join_group::Request {
        protocol_type: "connect".into(),
        ..join_request(&group, "", None)
    });
    pair.ask_all("another type by the member", |side| join_group::Request {
        protocol_type: "connect".into(),
        ..join_request(&group, &member[side], None)
    });
    pair.ask_all("no common protocol", |_| {
        let mut request = join_request(&group, "", None);
        request.protocols.truncate(1);
        request.protocols[0].name = "other".into();
        request
    });
    pair.ask_all("join of an unknown member", |_| join_request(&group, "somebody", None));
    for generation in [-1, 0, 2, 9] {
        pair.ask_all(&format!("heartbeat of generation {generation}"), |side| {
            heartbeat_request(&group, &member[side], generation)
        });
        pair.ask_all(&format!("sync of generation {generation}"), |side| {
            sync_request(&group, &member[side], generation, &[])
        });
    }
    pair.ask_all("heartbeat of an unknown member", |_| heartbeat_request(&group, "somebody", 1));
    pair.ask_all("heartbeat without a member", |_| heartbeat_request(&group, "", 1));
    pair.ask_all("sync of an unknown member", |_| sync_request(&group, "somebody", 1, &[]));
    pair.ask_all("sync by another protocol", |side| sync_group::Request {
        protocol_name: Some("x".into()),
        ..sync_request(&group, &member[side], 1, &[])
    });
    pair.ask_all("sync by another type", |side| sync_group::Request {
        protocol_type: Some("x".into()),
        ..sync_request(&group, &member[side], 1, &[])
    });
    pair.ask_all("sync by no protocol", |side| sync_group::Request {
        protocol_type: None,
        protocol_name: None,
        ..sync_request(&group, &member[side], 1, &[])
    });
    for (what, instance) in [("heartbeat with an instance", "i"), ("heartbeat with an empty instance", "")] {
        pair.ask_all(what, |side| heartbeat_request_of(&group, &member[side], instance));
    }
    for version in 3..=5 {
        pair.ask("leave of several", version, |_| leave_group::Request {
            group_id: group.as_str().into(),
            members: ["", "somebody"]
                .into_iter()
                .flat_map(|id| {
                    [None, Some("i")].map(|instance| leave_group::MemberIdentity {
                        member_id: id.into(),
                        group_instance_id: instance.map(Str::from),
                        reason: None,
                    })
                })
                .collect(),
            ..Default::default()
        });
        pair.ask("leave of nobody", version, |_| leave_group::Request {
            group_id: group.as_str().into(),
            ..Default::default()
        });
    }
    pair.ask("still there", 4, |side| heartbeat_request(&group, &member[side], 1));
}

fn heartbeat_request_of(group: &str, member_id: &str, instance: &str) -> heartbeat::Request {
    heartbeat::Request { group_instance_id: Some(instance.into()), ..heartbeat_request(group, member_id, 1) }
}

/// Members with an instance id: they come back as who they were.
pub fn static_members(pair: &mut Pair) {
    for version in 5..=9 {
        let group = pair.name(&format!("static-{version}"));
        let a = stable_group(pair, &group, version, Some("one"));
        pair.ask("rejoins with its id", version, |side| join_request(&group, &a[side], Some("one")));
        pair.ask("syncs", 5, |side| sync_group::Request {
            group_instance_id: Some("one".into()),
            ..sync_request(&group, &a[side], 2, &[&a[side]])
        });
        let b = pair.ask("comes back without an id", version, |_| join_request(&group, "", Some("one")));
        let generation = b.map(|answer| answer.generation_id);
        let b = b.map(|answer| answer.member_id.clone());
        pair.ask("the old one joins", version, |side| join_request(&group, &a[side], Some("one")));
        pair.ask("the old one beats", 4, |side| heartbeat::Request {
            generation_id: 2,
            ..heartbeat_request_of(&group, &a[side], "one")
        });
        pair.ask("the old one beats without instance", 4, |side| heartbeat_request(&group, &a[side], 2));
        pair.ask("the old one syncs", 5, |side| sync_group::Request {
            group_instance_id: Some("one".into()),
            ..sync_request(&group, &a[side], generation[side], &[])
        });
        pair.ask("the new one beats", 4, |side| heartbeat::Request {
            generation_id: generation[side],
            ..heartbeat_request_of(&group, &b[side], "one")
        });
        pair.ask("the new one syncs", 5, |side| sync_group::Request {
            group_instance_id: Some("one".into()),
            ..sync_request(&group, &b[side], generation[side], &[&b[side]])
        });
        pair.ask("another instance with its id", version, |side| join_request(&group, &b[side], Some("two")));
        pair.ask("another instance beats", 4, |side| heartbeat::Request {
            generation_id: generation[side],
            ..heartbeat_request_of(&group, &b[side], "two")
        });
        pair.ask("changed metadata", version, |_| {
            let mut request = join_request(&group, "", Some("one"));
            request.protocols[0].metadata = Bytes::from_static(b"\0\0\0\0\0\x01\0\x01t\0\0\0\0");
            request
        });
        pair.ask("described", 6, |_| describe_groups::Request {
            groups: vec![group.as_str().into()],
            ..Default::default()
        });
        for leave in 3..=5 {
            for (what, member, instance) in [
                ("leaves with a wrong id", "x", "one"),
                ("an unknown instance leaves", "", "nobody"),
                ("leaves", "", "one"),
                ("leaves again", "", "one"),
            ] {
                pair.ask(what, leave, |_| leave_group::Request {
                    group_id: group.as_str().into(),
                    members: vec![leave_group::MemberIdentity {
                        member_id: member.into(),
                        group_instance_id: Some(instance.into()),
                        reason: None,
                    }],
                    ..Default::default()
                });
            }
        }
    }
}

/// Which protocol two members agree on.
pub fn protocols(pair: &mut Pair) {
    let with = |group: &str, member: &str, names: &[&str]| {
        let mut request = join_request(group, member, None);
        let metadata = request.protocols[0].metadata.clone();
        request.protocols = names
            .iter()
            .map(|&name| join_group::JoinGroupRequestProtocol {
                name: name.into(),
                metadata: metadata.clone(),
            })
            .collect();
        request
    };
    for (at, (first, second)) in [
        (&["a", "b"][..], &["b", "a"][..]),
        (&["a", "b"], &["b"]),
        (&["a", "b"], &["b", "c"]),
        (&["b", "a", "c"], &["c", "b"]),
    ]
    .into_iter()
    .enumerate()
    {
        let group = pair.name(&format!("protocols-{at}"));
        let a = pair.ask("first", 2, |_| with(&group, "", first)).map(|answer| answer.member_id.clone());
        pair.ask("syncs", 2, |side| sync_request(&group, &a[side], 1, &[&a[side]]));
        let mut other = pair.another_called("other");
        let joining = other.send("second", 2, |_| with(&group, "", second));
        pair.ask_unless(&["None"], "told", 2, |side| heartbeat_request(&group, &a[side], 1));
        pair.ask("first again", 7, |side| with(&group, &a[side], first));
        other.receive(joining);
        pair.ask("listed", 5, |_| describe_groups::Request {
            groups: vec![group.as_str().into()],
            ..Default::default()
        });
    }
}

/// DescribeGroups, ListGroups, DeleteGroups.
pub fn descriptions(pair: &mut Pair) {
    let (stable, joining) = (pair.name("described-stable"), pair.name("described-joining"));
    let member = stable_group(pair, &stable, 5, None);
    pair.ask("joins", 3, |_| join_request(&joining, "", None));
    let group = |names: &[&str]| describe_groups::Request {
        groups: names.iter().map(|&name| name.into()).collect(),
        ..Default::default()
    };
    pair.ask_all("stable", |_| group(&[&stable]));
    pair.ask_all("with operations", |_| describe_groups::Request {
        include_authorized_operations: true,
        ..group(&[&stable])
    });
    pair.ask_all("completing", |_| group(&[&joining]));
    pair.ask_all("unknown", |_| group(&["unknown-group", ""]));
    pair.ask_all("unknown, with operations", |_| describe_groups::Request {
        include_authorized_operations: true,
        ..group(&["unknown-group"])
    });
    pair.ask_all("twice", |_| group(&[&stable, &stable]));
    pair.ask_all("none", |_| group(&[]));
    let mut list = |what: &str, states: &[&str], types: &[&str]| {
        pair.ask_all(what, |_| list_groups::Request {
            states_filter: states.iter().map(|&state| state.into()).collect(),
            types_filter: types.iter().map(|&kind| kind.into()).collect(),
        });
    };
    list("all", &[], &[]);
    for state in [
        "Stable",
        "stable",
        "CompletingRebalance",
        "completing_rebalance",
        "PreparingRebalance",
        "Empty",
        "Dead",
        "nonsense",
        "",
    ] {
        list(&format!("state {state:?}"), &[state], &[]);
    }
    for kind in ["classic", "Classic", "consumer", "share", "streams", "nonsense", ""] {
        list(&format!("type {kind:?}"), &[], &[kind]);
    }
    list("both", &["Stable", "Empty"], &["classic", "consumer"]);
    let delete = |names: &[&str]| delete_groups::Request {
        groups_names: names.iter().map(|&name| name.into()).collect(),
    };
    pair.ask_all("delete", |_| delete(&[&stable, "unknown-group", ""]));
    pair.ask_all("delete none", |_| delete(&[]));
    pair.ask("leaves", 3, |side| leave_group::Request {
        group_id: stable.as_str().into(),
        members: vec![leave_group::MemberIdentity { member_id: member[side].clone(), ..Default::default() }],
        ..Default::default()
    });
    pair.ask_all("empty", |_| group(&[&stable]));
    pair.ask_all("delete twice", |_| delete(&[&stable, &stable]));
    pair.ask_all("deleted", |_| group(&[&stable]));
}
