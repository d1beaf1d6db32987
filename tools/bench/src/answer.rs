//! Follows one answer as it arrives: status, `Content-Length`, and how much of it is still to come. It is enough for
//! the answers of the benchmark's upstream through any proxy; an answer without a length is refused.

/// The longest head that is taken.
const HEAD_BYTES: usize = 16 * 1024;

/// Reads one answer after another from the bytes of a connection.
#[derive(Debug, Default)]
pub struct Answer {
    head: Vec<u8>,
    remaining: Option<usize>,
    status: u16,
}

/// What is known after some more bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// There is more to come.
    Partial,
    /// The answer is whole; this is its status.
    Whole(u16),
    /// It is not an answer that this reader follows, or more bytes came than it has.
    Broken,
}

impl Answer {
    /// Takes the next bytes of the connection. After [`Progress::Whole`] it stands ready for the next answer.
    pub fn take(&mut self, bytes: &[u8]) -> Progress {
        let body = match self.remaining {
            Some(_) => bytes.len(),
            None => {
                let searched = self.head.len().saturating_sub(3);
                self.head.extend_from_slice(bytes);
                let Some(end) = find(&self.head[searched..], b"\r\n\r\n").map(|at| searched + at + 4) else {
                    return if self.head.len() > HEAD_BYTES { Progress::Broken } else { Progress::Partial };
                };
                let Some((status, length)) = status_and_length(&self.head[..end]) else { return Progress::Broken };
                self.status = status;
                self.remaining = Some(length);
                let body = self.head.len() - end;
                self.head.clear();
                body
            }
        };
        match self.remaining.unwrap_or_default().checked_sub(body) {
            None => Progress::Broken,
            Some(0) => {
                self.remaining = None;
                Progress::Whole(self.status)
            }
            left => {
                self.remaining = left;
                Progress::Partial
            }
        }
    }
}

/// Where `needle` begins.
pub(crate) fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

fn status_and_length(head: &[u8]) -> Option<(u16, usize)> {
    let mut lines = std::str::from_utf8(head).ok()?.split("\r\n");
    let status = lines.next()?.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
    let length = lines
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .and_then(|(_, value)| value.trim().parse().ok())?;
    Some((status, length))
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-LENGTH: 5\r\nx: y\r\n\r\nhello";

    #[test]
    fn an_answer_is_whole_wherever_it_is_cut_and_the_next_one_follows() {
        for cut in 1..WHOLE.len() {
            let mut answer = Answer::default();
            assert_eq!(answer.take(&WHOLE[..cut]), Progress::Partial, "cut at {cut}");
            assert_eq!(answer.take(&WHOLE[cut..]), Progress::Whole(200), "cut at {cut}");
            assert_eq!(answer.take(WHOLE), Progress::Whole(200), "second answer, cut at {cut}");
        }
    }

    #[test]
    fn what_it_cannot_follow_is_broken() {
        assert_eq!(Answer::default().take(b"HTTP/1.1 200 OK\r\n\r\n"), Progress::Broken);
        assert_eq!(Answer::default().take(b"SSH-2.0\r\n\r\n"), Progress::Broken);
        assert_eq!(Answer::default().take(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nab"), Progress::Broken);
        assert_eq!(Answer::default().take(&[b'a'; HEAD_BYTES + 1]), Progress::Broken);
    }
}
