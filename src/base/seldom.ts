/**
 * Tells of the first, the second, the fourth time and so on: so what happens again and again does not
 * fill the disk with its lines. @returns what is called each time, with what tells of so many
 */
export function seldomer(): (tell: (times: number) => void) => void {
  let times = 0;
  return (tell) => {
    times += 1;
    if (Number.isInteger(Math.log2(times))) tell(times);
  };
}
