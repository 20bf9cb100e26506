//! A line of requests as a liquid. Rule: first come, first served; what leaves is what is told.

use std::collections::VecDeque;

/// Requests in line, first come first served, as pieces of the time in which they came.
#[derive(Debug, Default)]
pub(super) struct Line {
    pieces: VecDeque<Piece>,
    pub(super) level: f64,
}

/// Requests that came evenly from one second of the run to another.
#[derive(Clone, Copy, Debug)]
struct Piece {
    from: f64,
    to: f64,
    count: f64,
}

impl Line {
    pub(super) fn join(&mut self, from: f64, to: f64, count: f64) {
        if count > 0.0 {
            self.pieces.push_back(Piece { from, to, count });
            self.level += count;
        }
    }

    /// Takes so many from the front; when they had come on average.
    pub(super) fn serve(&mut self, count: f64) -> f64 {
        let (mut left, mut moments, mut last) = (count, 0.0, 0.0);
        while let Some(piece) = self.pieces.front_mut() {
            // A hair's breadth is rounding.
            let taken = if left >= piece.count * (1.0 - 1e-9) { piece.count } else { left };
            let until = piece.from + (piece.to - piece.from) * taken / piece.count;
            moments += taken * (piece.from + until) / 2.0;
            last = until;
            left -= taken;
            if taken < piece.count {
                piece.count -= taken;
                piece.from = until;
                break;
            }
            self.pieces.pop_front();
            if left <= 0.0 {
                break;
            }
        }
        let taken = count - left.max(0.0);
        self.less(taken);
        if taken > 0.0 { moments / taken } else { last }
    }

    /// Sends away those that came last, until no more than `limit` are left; how many.
    pub(super) fn cut(&mut self, limit: f64) -> f64 {
        let over = (self.level - limit).max(0.0);
        let mut left = over;
        while left > 0.0
            && let Some(piece) = self.pieces.back_mut()
        {
            if left < piece.count {
                piece.to = piece.from + (piece.to - piece.from) * (1.0 - left / piece.count);
                piece.count -= left;
                break;
            }
            left -= piece.count;
            self.pieces.pop_back();
        }
        self.less(over);
        over
    }

    /// Those leave that came before `moment`; how many.
    pub(super) fn give_up(&mut self, moment: f64) -> f64 {
        let mut gone = 0.0;
        while let Some(piece) = self.pieces.front_mut() {
            if piece.to > moment {
                if piece.from < moment {
                    let leaving = piece.count * (moment - piece.from) / (piece.to - piece.from);
                    piece.count -= leaving;
                    piece.from = moment;
                    gone += leaving;
                }
                break;
            }
            gone += piece.count;
            self.pieces.pop_front();
        }
        self.less(gone);
        gone
    }

    fn less(&mut self, count: f64) {
        self.level = if self.pieces.is_empty() { 0.0 } else { (self.level - count).max(0.0) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_served_from_the_front_given_up_at_the_front_and_cut_at_the_back() {
        let mut line = Line::default();
        line.join(0.0, 1.0, 10.0);
        line.join(1.0, 2.0, 20.0);
        // The first half of the first second, at a quarter of it on average.
        assert_eq!((line.serve(5.0), line.level), (0.25, 25.0));
        // The rest of it and five of the twenty.
        assert_eq!((line.serve(10.0), line.level), ((5.0 * 0.75 + 5.0 * 1.125) / 10.0, 15.0));
        assert!((line.give_up(1.5) - 5.0).abs() < 1e-12 && (line.level - 10.0).abs() < 1e-12);
        assert!((line.cut(4.0) - 6.0).abs() < 1e-12 && (line.level - 4.0).abs() < 1e-12);
        assert!((line.serve(4.0) - 1.6).abs() < 1e-12 && line.level == 0.0);
        assert_eq!((line.give_up(9.0), line.cut(0.0)), (0.0, 0.0));
    }
}
