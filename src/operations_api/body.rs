use reqwest::Response;

/// What has been read of an answer's body. How much may be read is the client's to say: `api.response_limit`, and
/// `MAX_ERROR_BYTES` of an error.
pub(super) enum Body<Chunk> {
    Empty,
    /// The common case: the whole body arrived in one piece, which is not copied.
    One(Chunk),
    Joined(Vec<u8>),
}

impl<Chunk: AsRef<[u8]>> Body<Chunk> {
    /// As much as was read.
    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Self::Empty => &[],
            Self::One(chunk) => chunk.as_ref(),
            Self::Joined(bytes) => bytes,
        }
    }

    fn with(self, chunk: Chunk) -> Self {
        match self {
            Self::Empty => Self::One(chunk),
            Self::One(first) => Self::Joined([first.as_ref(), chunk.as_ref()].concat()),
            Self::Joined(mut bytes) => {
                bytes.extend_from_slice(chunk.as_ref());
                Self::Joined(bytes)
            }
        }
    }
}

/// Reads until the body ends, which is what lets the connection be used again, or is longer than `limit`.
pub(super) async fn read_body(mut response: Response, limit: usize) -> Result<Body<impl AsRef<[u8]>>, reqwest::Error> {
    let mut body = Body::Empty;
    while let Some(chunk) = response.chunk().await? {
        body = body.with(chunk);
        if body.bytes().len() > limit {
            break;
        }
    }
    Ok(body)
}

/// Reads until the body ends, fails, or is longer than `limit`, and keeps nothing.
pub(super) async fn drain(mut response: Response, limit: usize) {
    let mut length = 0;
    while let Ok(Some(chunk)) = response.chunk().await {
        length += chunk.len();
        if length > limit {
            return;
        }
    }
}
