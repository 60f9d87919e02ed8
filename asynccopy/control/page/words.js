// Figures as people read them.

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];

export function size(bytes) {
  let value = bytes;
  let unit = 0;
  while (Math.abs(value) >= 1024 && unit < UNITS.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${unit && value < 100 ? value.toFixed(1) : value.toFixed(0)} ${UNITS[unit]}`;
}

export const rate = (bytes) => `${size(bytes)}/s`;

const whole = new Intl.NumberFormat("en");

export const count = (number) => whole.format(Math.round(number));

export const plural = (number, one, many = `${one}s`) => `${count(number)} ${number === 1 ? one : many}`;

export function span(seconds) {
  const all = Math.max(0, Math.round(seconds));
  if (all < 60) return `${all} s`;
  if (all < 3600) return pair(Math.floor(all / 60), "min", all % 60, "s");
  if (all < 86400) return pair(Math.floor(all / 3600), "h", Math.floor((all % 3600) / 60), "min");
  return pair(Math.floor(all / 86400), "d", Math.floor((all % 86400) / 3600), "h");
}

const pair = (large, largeUnit, small, smallUnit) =>
  small ? `${large} ${largeUnit} ${small} ${smallUnit}` : `${large} ${largeUnit}`;

export const ago = (moment, now) => (moment ? `${span((now - moment) / 1000)} ago` : "never");

export const ahead = (moment, now) => (moment ? (moment <= now ? "now" : `in ${span((moment - now) / 1000)}`) : "–");

const minute = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", hour12: false });
const day = new Intl.DateTimeFormat(undefined, { month: "short", day: "numeric" });

export const clock = (moment) => minute.format(moment);

export function when(moment, now) {
  const date = new Date(moment);
  return date.toDateString() === new Date(now).toDateString() ? clock(date) : `${day.format(date)}, ${clock(date)}`;
}

export function percent(done, total) {
  if (done >= total) return "100 %";
  const share = (100 * done) / total;
  // 99.96 % must not read as done
  return `${share < 99 ? Math.floor(share) : Math.min(99.9, Math.floor(share * 10) / 10)} %`;
}
