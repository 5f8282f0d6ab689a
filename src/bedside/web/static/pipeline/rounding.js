/** Rounds to the nearest integer, halves to the even one, as numpy and OpenCV do. */
export function rint(value) {
  const rounded = Math.round(value);
  return rounded - value === 0.5 && rounded % 2 ? rounded - 1 : rounded;
}

/** `count` integers spread evenly from `first` to `last`, as `rint(linspace(...))`. */
export function spread(first, last, count) {
  if (count === 1) return [first];
  const step = (last - first) / (count - 1);
  return Array.from({ length: count }, (_, index) => rint(index === count - 1 ? last : first + index * step));
}
