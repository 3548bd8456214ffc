// What makes numbers on this machine unreliable: each fact about it judged in a sentence for people, with the command that mends it. Pure.
import { coreList, doubtful, fine, unknown, type DoctorFacts, type DoctorFinding } from './doctor-facts.ts';
import { battery, clocks, governor, powerMode, quota, temperature, throttling } from './doctor-speed.ts';
import { percent } from './machine-findings.ts';

const MEBIBYTE = 2 ** 20;
/** As for a verdict: more makes a number suspect. */
const FOREIGN_LIMIT = 0.05;
const STEAL_LIMIT = 0.01;
const SPINNING_CORES = 0.2;
const SWAP_LIMIT_BYTES = 64 * MEBIBYTE;
/** Reading any other takes a call into the kernel or a slow device each time. */
const GOOD_CLOCK_SOURCES: readonly string[] = ['tsc', 'arch_sys_counter', 'kvm-clock', 'hyperv_clocksource_tsc_page'];

function spinning({ idleCores }: DoctorFacts): readonly DoctorFinding[] {
  if (idleCores === null) return [];
  const taken = `Between runs the runtime's threads take ${percent(idleCores)} of a core`;
  if (idleCores <= SPINNING_CORES) return [fine('spinning', `${taken}: they sleep (limit ${percent(SPINNING_CORES)}).`)];
  return [
    doubtful(
      'spinning',
      `${taken} (limit ${percent(SPINNING_CORES)}): they spin, which takes power while nothing is asked and time from other programs. This agent turns spinning off, so this runtime does not listen: install the version that came with it.`,
      null,
    ),
  ];
}

function threads(facts: DoctorFacts): readonly DoctorFinding[] {
  const { threads: asked, allowedCores, onlineCores, siblings } = facts;
  if (allowedCores.length === 0) return [unknown('threads', 'This machine does not tell which cores may be used.')];
  const usable = `${allowedCores.length} core(s) may be used (${coreList(allowedCores)}${onlineCores === null ? '' : ` of ${onlineCores} online`})`;
  if (asked > allowedCores.length) {
    return [
      doubtful(
        'threads',
        `${asked} threads are asked, but ${usable}: they wait for each other. Ask for fewer.`,
        `ofa-agent measure MODEL.onnx --threads ${allowedCores.length}`,
      ),
    ];
  }
  const whole = siblings.map((pair) => pair.filter((core) => allowedCores.includes(core))).filter((pair) => pair.length > 0);
  if (asked > 1 && whole.some((pair) => pair.length > 1)) {
    const firsts = whole.map((pair) => pair[0] as number);
    return asked > whole.length
      ? [
          doubtful(
            'threads',
            `${asked} threads are asked, but there are ${whole.length} whole cores; the rest are second threads of them, which share their arithmetic units.`,
            `ofa-agent measure MODEL.onnx --threads ${whole.length}`,
          ),
        ]
      : [
          doubtful(
            'threads',
            `${usable}, two of which may be one: where two threads of a model land on one core, it is slower. Keep each on a core of its own.`,
            `taskset -c ${coreList(firsts)} ofa-agent measure MODEL.onnx --threads ${asked}`,
          ),
        ];
  }
  return [fine('threads', `${asked} thread(s) on a machine where ${usable}.`)];
}

function neighbours({ neighbours: seen }: DoctorFacts): readonly DoctorFinding[] {
  if (seen === null) return [unknown('neighbours', 'This machine does not tell what other programs take. Look with top.')];
  const findings: DoctorFinding[] = [];
  const { foreignShare, stealShare, busiest } = seen;
  if (foreignShare > FOREIGN_LIMIT) {
    const names = busiest.map(({ name, pid, coreShare }) => `${name} (process ${pid}, ${percent(coreShare)} of a core)`).join(', ');
    findings.push(
      doubtful(
        'neighbours',
        `Other programs take ${percent(foreignShare)} of all cores' time (limit ${percent(FOREIGN_LIMIT)})${names === '' ? '' : `: ${names}`}. End what is not needed; \`kill -STOP PROCESS\` pauses one while you measure, \`kill -CONT PROCESS\` lets it go on.`,
        busiest.length === 0 ? 'top' : `ps -o pid,user,etime,args -p ${busiest.map(({ pid }) => pid).join(',')}`,
      ),
    );
  } else findings.push(fine('neighbours', `Other programs take ${percent(foreignShare)} of all cores' time.`));
  if (stealShare > STEAL_LIMIT) {
    findings.push(
      doubtful(
        'neighbours',
        `Other virtual machines on this computer took ${percent(stealShare)} of its time from this one (limit ${percent(STEAL_LIMIT)}). Nothing typed here helps: measure at another time, or on a machine of your own.`,
        null,
      ),
    );
  }
  return findings;
}

function swap({ memory }: DoctorFacts): readonly DoctorFinding[] {
  if (memory === null) return [unknown('swap', 'This machine does not tell whether memory is swapped out.')];
  const { swapTotalBytes, swapUsedBytes: used, availableBytes } = memory;
  const mebibytes = (bytes: number) => `${Math.round(bytes / MEBIBYTE)} MiB`;
  if (swapTotalBytes === 0) return [fine('swap', `There is no swap; ${mebibytes(availableBytes)} of memory are free.`)];
  if (used <= SWAP_LIMIT_BYTES)
    return [fine('swap', `${mebibytes(used)} are swapped out; ${mebibytes(availableBytes)} of memory are free.`)];
  return used < availableBytes
    ? [
        doubtful(
          'swap',
          `${mebibytes(used)} of programs lie on the disk (limit ${mebibytes(SWAP_LIMIT_BYTES)}): fetching them disturbs a run. There is room to bring them back.`,
          'sudo swapoff -a && sudo swapon -a',
        ),
      ]
    : [
        doubtful(
          'swap',
          `${mebibytes(used)} of programs lie on the disk and only ${mebibytes(availableBytes)} of memory are free: end some programs first. This shows the largest.`,
          'ps -eo pid,rss,comm --sort=-rss | head',
        ),
      ];
}

function clockSource({ clockSource: source }: DoctorFacts): readonly DoctorFinding[] {
  if (source === null) return [unknown('clock source', 'This machine does not tell what it takes the time from.')];
  const { now, available } = source;
  if (GOOD_CLOCK_SOURCES.includes(now)) return [fine('clock source', `Times are read from ${now}, which is quick.`)];
  const better = GOOD_CLOCK_SOURCES.find((name) => available.includes(name));
  return [
    doubtful(
      'clock source',
      `Times are read from ${now}, which takes about a microsecond each time and adds it to every run. ${better === undefined ? 'The kernel offers no better one; this tells why.' : `${better} is quicker.`}`,
      better === undefined
        ? 'sudo dmesg | grep -i -e tsc -e clocksource'
        : `echo ${better} | sudo tee /sys/devices/system/clocksource/clocksource0/current_clocksource`,
    ),
  ];
}

/** Every finding, in the order in which people should read them. */
export function diagnose(facts: DoctorFacts): readonly DoctorFinding[] {
  const rules = [governor, clocks, throttling, quota, powerMode, temperature, battery, neighbours, threads, spinning, swap, clockSource];
  return rules.flatMap((rule) => rule(facts));
}
