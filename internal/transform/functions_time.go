package transform

import (
	"strconv"
	"time"
)

// layouts are what date reads when it is not told.
var layouts = []string{time.RFC3339Nano, "2006-01-02", "2006-01-02T15:04:05.999999999", "2006-01-02 15:04:05.999999999Z07:00", "2006-01-02 15:04:05.999999999", time.RFC1123, time.RFC1123Z}

var timeFunctions = map[string]function{
	// format takes a layout of Go's package time, such as "02.01.2006", or one of the words iso (as it is in JSON),
	// date, time, unix (seconds) and unixmilli.
	"format": {params: []kinds{only(instant), only(text)}, result: gives(text), call: func(r *run, at int, args []value) value {
		r.grow(at, 32+2*len(args[1].str))
		return textValue(formatted(at, args[0], args[1].str))
	}},
	"date": {params: []kinds{only(text), only(text)}, optional: 1, result: gives(instant), call: func(_ *run, at int, args []value) value {
		if len(args) == 2 {
			t, err := time.ParseInLocation(args[1].str, args[0].str, time.UTC)
			if err != nil {
				failf(at, "date: %q is not written as %q", clipped(args[0].str), clipped(args[1].str))
			}
			return fromGo(at, t, timestamptz)
		}
		for _, layout := range layouts {
			if t, err := time.ParseInLocation(layout, args[0].str, time.UTC); err == nil {
				return fromGo(at, t, timestamptz)
			}
		}
		failf(at, "date: %q is not a time that can be read without a layout", clipped(args[0].str))
		return value{}
	}},
	"unix": {params: []kinds{only(instant)}, result: gives(integer), call: func(_ *run, at int, args []value) value {
		return intValue(goTime(at, args[0]).Unix())
	}},
	"duration": {params: []kinds{only(text)}, result: gives(duration), call: func(_ *run, at int, args []value) value {
		d, err := time.ParseDuration(args[0].str)
		if err != nil {
			failf(at, "duration: %q is not one; write 1h30m or 45s", clipped(args[0].str))
		}
		return value{kind: duration, num: d.Microseconds()}
	}},
}

// formatted prints an instant by a layout or one of the words. Years before 1 have no form that a layout could say.
func formatted(at int, v value, layout string) string {
	switch layout {
	case "iso":
		return lent(appendInstant(nil, v))
	case "date":
		layout = "2006-01-02"
	case "time":
		layout = "15:04:05.999999"
	}
	t := goTime(at, v)
	switch layout {
	case "unix":
		return strconv.FormatInt(t.Unix(), 10)
	case "unixmilli":
		return strconv.FormatInt(t.UnixMilli(), 10)
	}
	if t.Year() < 1 {
		failf(at, "a layout has no form for a year before 1; format(…, \"iso\") has")
	}
	return t.Format(layout)
}
