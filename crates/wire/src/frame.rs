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

/// Writes the frame of a request, size first. The header's API and version say what the body is.
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
