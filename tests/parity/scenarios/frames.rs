//! Frames that are not quite what they should be: surplus bytes, unknown tags, nulls, cut bodies. Both brokers must answer,
//! or close the connection.

use oncelog_wire::ApiKey;

use crate::pair::Pair;

/// A frame: header of the given version, then the body.
fn frame(api: ApiKey, version: i16, client_id: Option<&[u8]>, tags: &[u8], body: &[u8]) -> Vec<u8> {
    let client_id = match client_id {
        Some(id) => [&(id.len() as i16).to_be_bytes()[..], id].concat(),
        None => vec![0xff, 0xff],
    };
    let tags = if api.request_header_version(version) == 2 { tags } else { &[] };
    let rest = [&api.code().to_be_bytes()[..], &version.to_be_bytes(), &[0, 0, 0, 9], &client_id, tags, body]
        .concat();
    [&(rest.len() as i32).to_be_bytes()[..], &rest].concat()
}

/// ListGroups and Heartbeat in forms that decoders may or may not take.
pub fn odd_bodies(pair: &mut Pair) {
    let sound = [1_u8, 1, 0];
    let list = |tags: &[u8], body: &[u8]| frame(ApiKey::ListGroups, 5, Some(b"frames"), tags, body);
    for (what, bytes) in [
        ("sound", list(&[0], &sound)),
        ("surplus bytes", list(&[0], &[&sound[..], &[1, 2, 3]].concat())),
        ("unknown tag in the header", list(&[1, 99, 2, 7, 7], &sound)),
        ("unknown tag in the body", list(&[0], &[1, 1, 1, 99, 1, 7])),
        ("tags out of order", list(&[0], &[1, 1, 2, 9, 0, 8, 0])),
        ("a tag twice", list(&[0], &[1, 1, 2, 9, 0, 9, 0])),
        ("a tag longer than the frame", list(&[0], &[1, 1, 1, 9, 100])),
        ("no tags", list(&[0], &[1, 1])),
        ("no body", list(&[0], &[])),
        ("null array", list(&[0], &[0, 1, 0])),
        ("array longer than the frame", list(&[0], &[100, 1, 0])),
        ("null string", list(&[0], &[2, 0, 1, 0])),
        ("string longer than the frame", list(&[0], &[2, 50, 1, 0])),
        ("bytes that are no UTF-8", list(&[0], &[2, 3, 0xff, 0xfe, 1, 0])),
        ("a varint of six bytes", list(&[0], &[0xff, 0xff, 0xff, 0xff, 0xff, 1])),
        ("no client id", frame(ApiKey::ListGroups, 5, None, &[0], &sound)),
        ("empty client id", frame(ApiKey::ListGroups, 5, Some(b""), &[0], &sound)),
        ("client id that is no UTF-8", frame(ApiKey::ListGroups, 5, Some(&[0xff, 0xfe]), &[0], &sound)),
        ("old version", frame(ApiKey::ListGroups, 0, Some(b"frames"), &[], &[])),
        ("old version, surplus bytes", frame(ApiKey::ListGroups, 0, Some(b"frames"), &[], &[1, 2])),
    ] {
        pair.another().ask_raw_kind(what, ApiKey::ListGroups, &bytes);
    }
    for (what, body) in [
        ("heartbeat", &[0, 1, b'g', 0, 0, 0, 1, 0, 1, b'm'][..]),
        ("null group", &[0xff, 0xff, 0, 0, 0, 1, 0, 1, b'm']),
        ("negative length", &[0xff, 0xfe, 0, 0, 0, 1, 0, 1, b'm']),
        ("cut", &[0, 1, b'g', 0, 0, 0, 1, 0, 1]),
    ] {
        pair.another().ask_raw_kind(
            what,
            ApiKey::Heartbeat,
            &frame(ApiKey::Heartbeat, 0, Some(b"x"), &[], body),
        );
    }
    for (what, bytes) in [
        ("size 0", &[0, 0, 0, 0][..]),
        ("negative size", &[0xff, 0xff, 0xff, 0xff]),
        ("size beyond the limit", &[0x7f, 0xff, 0xff, 0xff]),
        ("a header of two bytes", &[0, 0, 0, 2, 0, 18]),
        ("HTTP", b"GET / HTTP/1.1\r\n\r\n"),
    ] {
        pair.another().ask_raw_kind(what, ApiKey::ApiVersions, bytes);
    }
}
