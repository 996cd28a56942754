// Numbers as people read them. Pure.

export function seconds(value) {
  if (value === null || value === undefined) return "–";
  if (value === 0) return "0";
  if (value < 0.001) return "< 1 ms";
  if (value < 1) return `${Math.round(value * 1000)} ms`;
  if (value < 120) return `${value.toFixed(value < 10 ? 2 : 1)} s`;
  if (value < 7200) return `${Math.round(value / 60)} min`;
  return value < 172800 ? `${Math.round(value / 3600)} h` : `${Math.round(value / 86400)} days`;
}

// How long something has lasted: a glance is enough.
export function age(value) {
  return value >= 10 && value < 120 ? `${Math.round(value)} s` : seconds(value);
}

// What is short, more exactly.
export function milliseconds(value) {
  return value > 0 && value < 0.01 ? `${(value * 1000).toFixed(value < 0.001 ? 2 : 1)} ms` : seconds(value);
}

export function count(value, one, many = `${one}s`) {
  return `${number(value)} ${value === 1 ? one : many}`;
}

export function number(value) {
  return value.toLocaleString("en-US");
}

export function percent(share) {
  if (share > 0 && share < 0.001) return "< 0.1 %";
  return `${(share * 100).toFixed(share > 0 && share < 0.0995 ? 1 : 0)} %`;
}

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB"];

export function bytes(value) {
  let unit = 0;
  while (value >= 1024 && unit < UNITS.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${unit === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${UNITS[unit]}`;
}

export function clock(unixTime) {
  return new Date(unixTime * 1000).toLocaleTimeString([], { hour12: false });
}
