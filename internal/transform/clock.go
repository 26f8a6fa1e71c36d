package transform

import (
	"math"
	"time"
)

const microsPerDay = 24 * 60 * 60 * 1_000_000

// epoch is when Postgres begins to count.
var epoch = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

// micros are the microseconds from the epoch to t.
func micros(t time.Time) int64 { return t.UnixMicro() - epoch.UnixMicro() }

// infinite reports whether an instant is infinity or -infinity.
func infinite(v value) bool {
	if v.clock == date {
		return v.num == math.MaxInt32 || v.num == math.MinInt32
	}
	return v.num == math.MaxInt64 || v.num == math.MinInt64
}

// moment is a finite instant in microseconds.
func moment(at int, v value) int64 {
	if infinite(v) {
		failf(at, "an infinite time cannot be calculated with")
	}
	if v.clock != date {
		return v.num
	}
	if v.num > math.MaxInt64/microsPerDay || v.num < math.MinInt64/microsPerDay {
		failf(at, "the date is too far away to be a time")
	}
	return v.num * microsPerDay
}

// goTime is a finite instant for the functions of package time.
func goTime(at int, v value) time.Time {
	if v.clock == date && !infinite(v) {
		return epoch.AddDate(0, 0, int(v.num))
	}
	us := moment(at, v)
	return time.Unix(epoch.Unix()+floorDiv(us, 1_000_000), (us-floorDiv(us, 1_000_000)*1_000_000)*1000).UTC()
}

func floorDiv(a, b int64) int64 {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}

// fromGo is the other way; microseconds are all that is kept.
func fromGo(at int, t time.Time, c clock) value {
	// Beyond the years that timestamp can have, microseconds would overflow.
	if y := t.Year(); y < -4712 || y > 294276 {
		failf(at, "the time is outside of the years that timestamp can have")
	}
	return value{kind: instant, clock: c, num: micros(t)}
}

// orderTimes compares instants of any types, in UTC; infinities come first and last.
func orderTimes(a, b value) int {
	x, y := day(a), day(b)
	if x != y {
		if x < y {
			return -1
		}
		return 1
	}
	switch x, y := rest(a), rest(b); {
	case x < y:
		return -1
	case x > y:
		return 1
	}
	return 0
}

func day(v value) int64 {
	switch {
	case infinite(v) && v.num > 0:
		return math.MaxInt64
	case infinite(v):
		return math.MinInt64
	case v.clock == date:
		return v.num
	}
	return floorDiv(v.num, microsPerDay)
}

func rest(v value) int64 {
	if v.clock == date || infinite(v) {
		return 0
	}
	return v.num - floorDiv(v.num, microsPerDay)*microsPerDay
}

// shifted is an instant plus microseconds.
func shifted(at int, v value, us int64) value {
	m := moment(at, v)
	sum := m + us
	if (sum > m) != (us > 0) || sum == math.MaxInt64 || sum == math.MinInt64 {
		failf(at, "the time is outside of the years that timestamp can have")
	}
	c := v.clock
	if c == date {
		c = timestamp
	}
	out := value{kind: instant, clock: c, num: sum}
	fromGo(at, goTime(at, out), c)
	return out
}
