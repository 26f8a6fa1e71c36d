package render

import (
	"math"
	"strconv"
)

const (
	microsPerDay = 24 * 60 * 60 * 1_000_000

	// Days from 0000-03-01, where the years of civil below begin, to 2000-01-01, where those of Postgres do.
	postgresEpoch = 730425
	daysPerEra    = 146097 // of 400 years, after which the calendar repeats
)

// pairs holds 00 to 99, so that two digits are one load.
const pairs = "0001020304050607080910111213141516171819" +
	"2021222324252627282930313233343536373839" +
	"4041424344454647484950515253545556575859" +
	"6061626364656667686970717273747576777879" +
	"8081828384858687888990919293949596979899"

// appendDate appends a date, given in days since 2000-01-01.
func appendDate(dst []byte, days int32) []byte {
	switch days {
	case math.MaxInt32:
		return append(dst, "infinity"...)
	case math.MinInt32:
		return append(dst, "-infinity"...)
	}
	year, month, day := civil(int64(days))
	dst = appendDay(dst, year, month, day)
	if year <= 0 {
		dst = append(dst, " BC"...)
	}
	return dst
}

// appendTimestamp appends a timestamp, given in microseconds since 2000-01-01. Between date and time stands T where
// to_jsonb prints it (ISO 8601) and a blank where a cast to text does; the zone is UTC, which they write differently.
func appendTimestamp(dst []byte, us int64, between byte, zone string) []byte {
	switch us {
	case math.MaxInt64:
		return append(dst, "infinity"...)
	case math.MinInt64:
		return append(dst, "-infinity"...)
	}
	days := us / microsPerDay
	us -= days * microsPerDay
	if us < 0 {
		us += microsPerDay
		days--
	}
	year, month, day := civil(days)
	dst = appendDay(dst, year, month, day)
	dst = append(dst, between)
	dst = appendTime(dst, us)
	dst = append(dst, zone...)
	// The era comes last, behind the zone.
	if year <= 0 {
		dst = append(dst, " BC"...)
	}
	return dst
}

// appendTime appends a time of day; 24:00:00 is one. Zeros at the end of the fraction are not printed.
func appendTime(dst []byte, us int64) []byte {
	sec := uint32(us / 1_000_000)
	frac := uint32(us - int64(sec)*1_000_000)
	h := sec / 3600
	m := sec / 60 % 60
	s := sec % 60
	dst = append(dst, pairs[h*2], pairs[h*2+1], ':', pairs[m*2], pairs[m*2+1], ':', pairs[s*2], pairs[s*2+1])
	if frac == 0 {
		return dst
	}
	a, b, c := frac/10000, frac/100%100, frac%100
	dst = append(dst, '.', pairs[a*2], pairs[a*2+1], pairs[b*2], pairs[b*2+1], pairs[c*2], pairs[c*2+1])
	for dst[len(dst)-1] == '0' {
		dst = dst[:len(dst)-1]
	}
	return dst
}

// civil turns days since 2000-01-01 into a date of the proleptic Gregorian calendar, in which the year before 1 is 0.
// The year begins in March here, so that the leap day is its last one and months follow from arithmetic.
func civil(days int64) (year int64, month, day uint32) {
	days += postgresEpoch
	era := days / daysPerEra
	if days < 0 {
		era = (days - daysPerEra + 1) / daysPerEra
	}
	doe := uint32(days - era*daysPerEra)                   // day of era, 0 to 146096
	yoe := (doe - doe/1460 + doe/36524 - doe/146096) / 365 // year of era, 0 to 399
	doy := doe - (365*yoe + yoe/4 - yoe/100)               // day of year, 0 to 365
	mp := (5*doy + 2) / 153                                // month from March, 0 to 11
	day = doy - (153*mp+2)/5 + 1
	month = mp + 3
	year = int64(yoe) + era*400
	if mp >= 10 {
		month = mp - 9
		year++
	}
	return year, month, day
}

// appendDay appends year, month and day, without the era.
func appendDay(dst []byte, year int64, month, day uint32) []byte {
	if year <= 0 {
		year = 1 - year
	}
	if year >= 10000 {
		dst = strconv.AppendUint(dst, uint64(year), 10)
	} else {
		hi, lo := uint32(year)/100, uint32(year)%100
		dst = append(dst, pairs[hi*2], pairs[hi*2+1], pairs[lo*2], pairs[lo*2+1])
	}
	return append(dst, '-', pairs[month*2], pairs[month*2+1], '-', pairs[day*2], pairs[day*2+1])
}
