//! Headers, and whole frames: a four-byte size, a header, a body.

use bytes::Bytes;

use crate::decode_error::{DecodeError, Reason};
use crate::{ApiKey, Chunk, Message, Reader, Request, Str, Writer};

/// What a client says before the body of each request.
#[derive(Clone, Debug, PartialEq)]
pub struct RequestHeader {
    /// The API.
    pub api_key: ApiKey,
    /// The version of the body. It may be one that the API does not have.
    pub api_version: i16,
    /// Chosen by the client; its answer carries it again.
    pub correlation_id: i32,
    /// The client's name for itself. Null is left as it is; Kafka treats it as the empty name.
    pub client_id: Option<Str>,
}

impl RequestHeader {
    /// Reads the header of a frame whose size is already taken off. Only an unknown API is refused here, not an
    /// unknown version: ApiVersions answers that one.
    pub fn decode(r: &mut Reader) -> Result<RequestHeader, DecodeError> {
        const NAME: &str = "RequestHeader";
        let key = r.int16();
        let api_version = r.int16();
        let correlation_id = r.int32();
        let Some(api_key) = ApiKey::from_i16(key) else {
            r.fail(Reason::UnknownApi(key));
            return Err(r.check_within(NAME).expect_err("it has just failed"));
        };
        // Never compact, whatever the version: an old broker has to find the end of any ApiVersions header.
        let client_id = r.nullable_string(false);
        if api_key.request_header_version(api_version) == 2 {
            r.skip_tagged_fields();
        }
        r.check_within(NAME)?;
        Ok(RequestHeader { api_key, api_version, correlation_id, client_id })
    }

    fn encode(&self, w: &mut Writer) {
        w.int16(self.api_key.code());
        w.int16(self.api_version);
        w.int32(self.correlation_id);
        w.nullable_string(self.client_id.as_deref(), false);
        if self.api_key.request_header_version(self.api_version) == 2 {
            w.no_tagged_fields();
        }
    }
}

/// Writes the frame of a request, size first. The header's version says in which form.
///
/// # Panics
/// Where the header is that of another API.
pub fn encode_request<R: Request>(header: &RequestHeader, request: &R, w: &mut Writer) -> Vec<Chunk> {
    assert_eq!(header.api_key, R::KEY, "the header is of another API");
    w.sized(|w| {
        header.encode(w);
        request.encode(w, header.api_version);
    });
    w.finish()
}

/// Writes the frame of the answer to a request of `version`, size first.
pub fn encode_response<R: Request>(
    version: i16,
    correlation_id: i32,
    response: &R::Response,
    w: &mut Writer,
) -> Vec<Chunk> {
    w.sized(|w| {
        w.int32(correlation_id);
        if R::KEY.response_header_version(version) == 1 {
            w.no_tagged_fields();
        }
        response.encode(w, version);
    });
    w.finish()
}

/// Reads the frame of an answer, whose size is already taken off, and returns its correlation id too.
pub fn decode_response<R: Request>(version: i16, frame: Bytes) -> Result<(i32, R::Response), DecodeError> {
    let mut r = Reader::new(frame);
    let correlation_id = r.int32();
    if R::KEY.response_header_version(version) == 1 {
        r.skip_tagged_fields();
    }
    let response = R::Response::decode(&mut r, version)?;
    Ok((correlation_id, response))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        ErrorCode, Offset, ProducerId, api_versions, init_producer_id, list_offsets, sasl_handshake,
    };

    fn whole(chunks: Vec<Chunk>) -> Bytes {
        match <[Chunk; 1]>::try_from(chunks) {
            Ok([Chunk::Bytes(bytes)]) => bytes,
            other => panic!("expected one piece of memory, found {other:?}"),
        }
    }

    fn header(api_key: ApiKey, api_version: i16) -> RequestHeader {
        RequestHeader { api_key, api_version, correlation_id: 77, client_id: Some("me".into()) }
    }

    #[test]
    fn a_request_reads_back_from_its_frame() {
        for version in init_producer_id::Request::VERSIONS {
            let header = header(ApiKey::InitProducerId, version);
            let request =
                init_producer_id::Request { transactional_id: Some("pay".into()), ..Default::default() };
            let frame = whole(encode_request(&header, &request, &mut Writer::new()));
            assert_eq!(frame[..4], (frame.len() as u32 - 4).to_be_bytes());

            let mut r = Reader::new(frame.slice(4..));
            assert_eq!(RequestHeader::decode(&mut r), Ok(header));
            assert_eq!(init_producer_id::Request::decode(&mut r, version), Ok(request));
            assert_eq!(r.remaining(), 0);
        }
    }

    #[test]
    fn a_response_reads_back_from_its_frame() {
        for version in init_producer_id::Request::VERSIONS {
            let response = init_producer_id::Response { producer_id: ProducerId(9), ..Default::default() };
            let chunks =
                encode_response::<init_producer_id::Request>(version, 77, &response, &mut Writer::new());
            let frame = whole(chunks).slice(4..);
            assert_eq!(decode_response::<init_producer_id::Request>(version, frame), Ok((77, response)));
        }
    }

    #[test]
    fn the_response_header_of_api_versions_never_has_tagged_fields() {
        let response =
            api_versions::Response { error_code: ErrorCode::UnsupportedVersion, ..Default::default() };
        let frame = whole(encode_response::<api_versions::Request>(3, 1, &response, &mut Writer::new()));
        // Size, correlation id, error code, an empty compact array, throttle time, no tagged fields.
        assert_eq!(frame[..], [0, 0, 0, 12, 0, 0, 0, 1, 0, 35, 1, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn a_header_of_a_version_nobody_has_can_be_read() {
        let header = header(ApiKey::ApiVersions, 99);
        let mut w = Writer::new();
        header.encode(&mut w);
        assert_eq!(RequestHeader::decode(&mut Reader::new(w.finish_bytes())), Ok(header));
    }

    #[test]
    fn an_unknown_api_is_refused_by_name() {
        let mut r = Reader::new(Bytes::from_static(&[0x03, 0xe7, 0, 0, 0, 0, 0, 1, 0xff, 0xff]));
        let error = RequestHeader::decode(&mut r).expect_err("there is no such API");
        assert_eq!(error.to_string(), "RequestHeader: there is no API with key 999 at byte 8");
    }

    #[test]
    fn an_error_says_the_struct_it_is_in() {
        let partition =
            list_offsets::ListOffsetsPartitionResponse { offset: Offset(5), ..Default::default() };
        let topic =
            list_offsets::ListOffsetsTopicResponse { partitions: vec![partition], ..Default::default() };
        let response = list_offsets::Response { topics: vec![topic], ..Default::default() };
        let frame = whole(encode_response::<list_offsets::Request>(5, 1, &response, &mut Writer::new()));
        let cut = frame.slice(4..frame.len() - 1);
        let error = decode_response::<list_offsets::Request>(5, cut).expect_err("it is cut");
        let expected = "ListOffsetsPartitionResponse: 4 bytes are needed, 3 are left at byte 40";
        assert_eq!(error.to_string(), expected);
    }

    #[test]
    fn an_api_without_flexible_versions_keeps_the_old_headers() {
        assert_eq!(sasl_handshake::Request::FLEXIBLE_FROM, i16::MAX);
        assert_eq!(ApiKey::SaslHandshake.request_header_version(1), 1);
        assert_eq!(ApiKey::SaslHandshake.response_header_version(1), 0);
    }
}
