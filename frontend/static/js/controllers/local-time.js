// Shows a <time> in the reader's time zone and language; its title keeps the exact time.
export default class {
  constructor(element) {
    const moment = new Date(element.dateTime);
    if (Number.isNaN(moment.getTime())) return;
    element.title = element.textContent;
    element.textContent = moment.toLocaleString(undefined, {
      dateStyle: "medium",
      timeStyle: "short",
    });
  }
}
